"""How the one secret that `[protection]` needs lies in its file: in the clear, or under a seal."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from finsecure_crypto.errors import ConfigurationError, IntegrityError, UnavailableError
from finsecure_crypto.key_seal import KeySeal, SealedSecret, is_sealed
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.durable import read_secret, write_file


class SecretFiles(Protocol):
    """Reads and replaces such files; blocking."""

    def read(self, path: Path) -> SecretBytes:
        """Read a file of mode 0600.

        Raises:
            ConfigurationError: KEY_FILE_EXPOSED, SERVICE_SEALED, NOT_SEALED, SEAL_DAMAGED.
            UnavailableError: SEAL_CHANGED.
            OSError: as `open` raises it.
        """

    def write(self, path: Path, content: SecretBytes) -> None:
        """Replace a file in one step; the old one stays if that fails."""


class ClearFiles:
    """`SecretFiles` that lie open."""

    def read(self, path: Path) -> SecretBytes:
        """See `SecretFiles`."""
        content = read_secret(path)
        if is_sealed(content):
            raise ConfigurationError(
                "SERVICE_SEALED",
                f"{path} is sealed: give a threshold of the operators' shares (--share-file, once "
                "for each), and keep the section [seal] in the configuration",
            )
        return SecretBytes(content)

    def write(self, path: Path, content: SecretBytes) -> None:
        """See `SecretFiles`."""
        write_file(path, content.expose())


CLEAR = ClearFiles()


@dataclass(frozen=True)
class SealedFiles:
    """`SecretFiles` under a seal that was opened.

    Attributes:
        seal: of the set of shares that opened it.
        key: the unseal key.
        purpose: what the secret is: the kind of protection.
        numbers: of the shares that opened it for a command on the service's own machine.
    """

    seal: KeySeal
    key: SecretBytes
    purpose: str
    numbers: tuple[int, ...] = ()

    def read(self, path: Path) -> SecretBytes:
        """See `SecretFiles`."""
        sealed = read_sealed(path)
        if sealed.seal != self.seal:
            raise UnavailableError(
                "SEAL_CHANGED",
                f"{path} was sealed anew for other shares; seal the service (`finsecure seal`), "
                "then unseal it with the new ones",
            )
        try:
            return sealed.open(self.key, self.purpose)
        except IntegrityError as error:
            raise ConfigurationError(error.code, f"{path}: {error.message}") from None

    def write(self, path: Path, content: SecretBytes) -> None:
        """See `SecretFiles`."""
        write_file(path, self.seal.close(self.key, content, self.purpose))


def read_sealed(path: Path) -> SealedSecret:
    """Read a file without opening its seal.

    Raises:
        ConfigurationError: KEY_FILE_EXPOSED, SEALED_FILE_MISSING, NOT_SEALED, SEAL_DAMAGED.
    """
    try:
        content = read_secret(path)
    except OSError as error:
        raise ConfigurationError(
            "SEALED_FILE_MISSING",
            f"{path} cannot be read ({error.strerror}); restore it from the backup, or correct "
            "[protection]",
        ) from error
    if not is_sealed(content):
        raise ConfigurationError(
            "NOT_SEALED",
            f"{path} lies open although the configuration has [seal]; run "
            "`finsecure-keyservice reshare`, or take the section out",
        )
    try:
        return SealedSecret.parse(content)
    except IntegrityError as error:
        raise ConfigurationError(error.code, f"{path}: {error.message}") from None
