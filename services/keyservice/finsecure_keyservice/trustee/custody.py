"""How a trustee's secrets lie on disk: wrapped by a key that is not in the database."""

import os
from pathlib import Path
from typing import Protocol

from finsecure_crypto import aead, transcript
from finsecure_crypto.errors import ConfigurationError, IntegrityError
from finsecure_crypto.randomness import draw_secret
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.durable import write_file


class Custody(Protocol):
    """Wraps secrets for the database, each bound to what it is."""

    def wrap(self, secret: SecretBytes, purpose: str, name: str) -> bytes:
        """Encrypt a secret for storing it."""
        ...

    def unwrap(self, wrapped: bytes, purpose: str, name: str) -> SecretBytes:
        """Decrypt a stored secret.

        Raises:
            IntegrityError: CIPHERTEXT_REJECTED for a secret of another purpose, name or key.
        """
        ...


class FileCustody:
    """Wraps with AES-256-GCM under a key in a file, for want of a hardware token.

    Args:
        path: file of 32 bytes that its owner alone may read.

    Raises:
        ConfigurationError: KEY_FILE_MISSING, KEY_FILE_EXPOSED or KEY_FILE_INVALID.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise ConfigurationError(
                        "KEY_FILE_EXPOSED",
                        f"others may read {path}; give it to its owner alone (chmod 600) and ask "
                        "whether somebody has",
                    )
                key = file.read(aead.KEY_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(
                "KEY_FILE_MISSING",
                f"{path} cannot be read ({error.strerror}); `finsecure-trustee enrol` makes it, or "
                "restore it: without it no share in the database can be used",
            ) from error
        if len(key) != aead.KEY_BYTES:
            raise ConfigurationError(
                "KEY_FILE_INVALID", f"{path} has not {aead.KEY_BYTES} bytes; restore it"
            )
        self._key = SecretBytes(key)

    @staticmethod
    def create(path: Path) -> None:
        """Make the file, unless it exists."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_file(path, draw_secret(os.urandom, aead.KEY_BYTES).expose())

    def wrap(self, secret: SecretBytes, purpose: str, name: str) -> bytes:
        """Encrypt a secret for storing it."""
        return aead.seal(self._key, secret, _bound(purpose, name))

    def unwrap(self, wrapped: bytes, purpose: str, name: str) -> SecretBytes:
        """Decrypt a stored secret; see `Custody.unwrap`."""
        try:
            return aead.open_(self._key, wrapped, _bound(purpose, name))
        except IntegrityError as error:
            raise IntegrityError(
                error.code,
                f"the stored {purpose} of {name} does not open: the key file is another one, or "
                "the database was changed; restore both from the same backup",
            ) from error


def _bound(purpose: str, name: str) -> bytes:
    return transcript.encode("custody", purpose, name)
