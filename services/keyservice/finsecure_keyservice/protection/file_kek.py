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

    Before anything is wrapped it is read again if it was replaced. The versions in memory go on
    unwrapping when it cannot be read any more.

    Raises:
        ConfigurationError: KEK_MISSING, KEK_DAMAGED, KEK_REPLACED, or what `SecretFiles` raises.
        UnavailableError: what `SecretFiles` raises.
    """

    def __init__(
        self, path: Path, randomness: Randomness = os.urandom, files: SecretFiles = CLEAR
    ) -> None:
        self._path = path
        self._randomness = randomness
        self._files = files
        self._lock = threading.Lock()
        self._keys: dict[int, SecretBytes] = {}
        self._stamp: tuple[int, ...] | None = None
        self._current()

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
        return max(self._current())

    def wrap(self, secret: SecretBytes, context: bytes) -> bytes:
        """See `KeyEncryptionKey`."""
        keys = self._current()
        version = max(keys)
        associated = kek.associated_data(version, context)
        return kek.join(version, aead.seal(keys[version], secret, associated, self._randomness))

    def unwrap(self, wrapped: bytes, context: bytes) -> SecretBytes:
        """See `KeyEncryptionKey`."""
        version, sealed = kek.parse(wrapped)
        key = self._keys.get(version)
        if key is None:  # another process may have rotated
            key = self._current().get(version)
        if key is None:
            raise kek.rejected()
        try:
            return aead.open_(key, sealed, kek.associated_data(version, context))
        except IntegrityError:
            raise kek.rejected() from None

    def rotate(self) -> int:
        """See `KeyEncryptionKey`."""
        with self._lock:
            keys = self._read()  # another process may have rotated
            version = max(keys) + 1
            keys[version] = draw_secret(self._randomness)
            self._files.write(self._path, _content(keys))
            return version

    def check(self) -> None:
        """See `KeyEncryptionKey`."""
        self._current()

    def _current(self) -> dict[int, SecretBytes]:
        """All versions, as another process may have left them."""
        with self._lock:
            stamp = _stamp(self._path)  # before it is read: a later replacement is noticed
            if stamp is None or stamp != self._stamp:
                self._keys = self._read()
                self._stamp = stamp
            return self._keys

    def _read(self) -> dict[int, SecretBytes]:
        keys = _read(self._path, self._files)
        if any(keys.get(version) != key for version, key in self._keys.items()):
            raise ConfigurationError(
                "KEK_REPLACED",
                f"{self._path} lacks a version of the key that it had before: an older copy or "
                "another key was put in its place; restore the newest one",
            )
        return keys


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What differs once a file was replaced; None if it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


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
