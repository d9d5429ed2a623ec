"""A key-encryption key in a file: who reads the file, unless it is sealed, reads everything.

The file has one line for each version, its number and the key in hexadecimal, oldest first.
"""

import os
import re
import threading
from pathlib import Path

from finsecure_crypto import aead
from finsecure_crypto.errors import ConfigurationError, IntegrityError
from finsecure_crypto.randomness import Randomness, draw_secret
from finsecure_crypto.secret import SecretBytes

from finsecure_keyservice.protection import kek
from finsecure_keyservice.protection.secret_files import CLEAR, SecretFiles

_LINE = re.compile(rb"([1-9][0-9]{0,8}) ([0-9a-f]{64})\n")


class FileKek:
    """`KeyEncryptionKey` from a file of mode 0600.

    Raises:
        ConfigurationError: KEK_MISSING, KEK_DAMAGED, or what `SecretFiles` raises.
    """

    def __init__(
        self, path: Path, randomness: Randomness = os.urandom, files: SecretFiles = CLEAR
    ) -> None:
        self._path = path
        self._randomness = randomness
        self._files = files
        self._lock = threading.Lock()
        self._keys = _read(path, files)

    @classmethod
    def create(
        cls, path: Path, randomness: Randomness = os.urandom, files: SecretFiles = CLEAR
    ) -> "FileKek":
        """Make the first version in a new file.

        Raises:
            ConfigurationError: ALREADY_INITIALISED; nothing was changed.
        """
        if path.exists():
            raise ConfigurationError(
                "ALREADY_INITIALISED", f"{path} exists; nothing was changed. Name another file"
            )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(path, _content({1: draw_secret(randomness)}))
        return cls(path, randomness, files)

    @property
    def version(self) -> int:
        """See `KeyEncryptionKey`."""
        return max(self._keys)

    def wrap(self, secret: SecretBytes, context: bytes) -> bytes:
        """See `KeyEncryptionKey`."""
        version = self.version
        associated = kek.associated_data(version, context)
        return kek.join(
            version, aead.seal(self._keys[version], secret, associated, self._randomness)
        )

    def unwrap(self, wrapped: bytes, context: bytes) -> SecretBytes:
        """See `KeyEncryptionKey`."""
        version, sealed = kek.parse(wrapped)
        key = self._keys.get(version)
        if key is None:  # another process may have rotated
            self._keys = _read(self._path, self._files)
            key = self._keys.get(version)
        if key is None:
            raise kek.rejected()
        try:
            return aead.open_(key, sealed, kek.associated_data(version, context))
        except IntegrityError:
            raise kek.rejected() from None

    def rotate(self) -> int:
        """See `KeyEncryptionKey`."""
        with self._lock:
            keys = _read(self._path, self._files)  # another process may have rotated
            keys[max(keys) + 1] = draw_secret(self._randomness)
            self._files.write(self._path, _content(keys))
            self._keys = keys
            return self.version

    def check(self) -> None:
        """See `KeyEncryptionKey`; a key in memory can always be used."""


def _read(path: Path, files: SecretFiles) -> dict[int, SecretBytes]:
    try:
        content = files.read(path).expose()
    except FileNotFoundError as error:
        raise ConfigurationError(
            "KEK_MISSING",
            f"there is no key-encryption key {path}; restore it from the backup, without it "
            "nothing that was stored opens",
        ) from error
    except OSError as error:
        raise ConfigurationError(
            "KEK_DAMAGED", f"{path} cannot be read ({error.strerror}); run as the user who owns it"
        ) from error
    lines = list(_LINE.finditer(content))
    versions = [int(line[1]) for line in lines]
    if b"".join(line[0] for line in lines) != content or versions != list(
        range(1, len(versions) + 1)
    ):
        raise ConfigurationError(
            "KEK_DAMAGED", f"{path} is no key-encryption key; restore it from the backup"
        )
    if not versions:
        raise ConfigurationError("KEK_DAMAGED", f"{path} is empty; restore it from the backup")
    return {int(line[1]): SecretBytes(bytes.fromhex(line[2].decode())) for line in lines}


def _content(keys: dict[int, SecretBytes]) -> SecretBytes:
    lines = (f"{version} {key.expose().hex()}\n" for version, key in sorted(keys.items()))
    return SecretBytes("".join(lines).encode())
