"""The folder of key material: the root certificate and two secrets."""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from finsecure_crypto.errors import ConfigurationError, IntegrityError
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.durable import read_secret, write_file

from finsecure_keyservice.authority import Root
from finsecure_keyservice.protection.opening import open_vault
from finsecure_keyservice.protection.secret_files import CLEAR, SecretFiles
from finsecure_keyservice.protection.settings import FileProtection, TokenProtection
from finsecure_keyservice.protection.vault import Vault

SECRET_BYTES = 32

_PEPPER = b"api-key-pepper"
_AUDIT = b"audit-secret"


@dataclass(frozen=True)
class KeyMaterial:
    """What the running service works with: never the root's key.

    Attributes:
        root: the root certificate.
        pepper: under which API keys are hashed.
        audit: from which the key of the audit log's sealed details is derived.
    """

    root: x509.Certificate
    pepper: SecretBytes
    audit: SecretBytes


@dataclass(frozen=True)
class StateFolder:
    """Where each file is."""

    path: Path

    @property
    def root(self) -> Path:
        """Root certificate: what members are given, out of band."""
        return self.path / "root.pem"

    @property
    def root_key(self) -> Path:
        """Where the root's key is put, if nobody says where; it belongs offline."""
        return self.path / "root.key"

    @property
    def identity(self) -> Path:
        """The key service's own identity folder."""
        return self.path / "identity"

    @property
    def socket(self) -> Path:
        """Where a sealed service takes shares from its own machine."""
        return self.path / "unseal.socket"

    @property
    def _pepper(self) -> Path:
        return self.path / "api-key.pepper"

    @property
    def _audit(self) -> Path:
        return self.path / "audit.secret"

    @property
    def _secrets(self) -> tuple[Path, ...]:
        return self._pepper, self._audit

    @property
    def lasting(self) -> tuple[Path, ...]:
        """What a restored service needs: public or wrapped, and all that a backup may have."""
        return self.root, *self._secrets

    def occupied(self) -> Path | None:
        """A file that an earlier `init` left here, if there is one."""
        files = (*self.lasting, self.root_key)
        return next((file for file in files if file.exists()), None)

    def write(
        self,
        root: Root,
        root_key: Path | None,
        material: KeyMaterial,
        vault: Vault,
    ) -> None:
        """Write everything; the folder is readable by its owner alone.

        The root's key goes where `root_key` says; nowhere, when that is None.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        if root_key is not None:
            write_file(root_key, _key_pem(root.key))
        self.rewrap(vault, material)
        write_file(self.root, root.certificate.public_bytes(Encoding.PEM), mode=0o644)

    def open(
        self, protection: FileProtection | TokenProtection, files: SecretFiles = CLEAR
    ) -> tuple[Vault, KeyMaterial]:
        """Open the vault and read what the running service needs.

        Args:
            protection: what wraps the keys.
            files: reads what the protection needs; see `seal.unlocking.unlock`.

        Raises:
            ConfigurationError: what `read` raises; STATE_DAMAGED, or what `open_vault` raises.
            UnavailableError: what `open_vault` raises.
        """
        content = self.read()
        try:
            root = x509.load_pem_x509_certificate(content[self.root])
        except ValueError as error:
            raise self._damaged() from error
        vault = open_vault(protection, files)
        try:
            pepper = vault.open_secret(content[self._pepper], _PEPPER)
            audit = vault.open_secret(content[self._audit], _AUDIT)
        except IntegrityError as error:
            vault.close()
            raise self._damaged() from error
        return vault, KeyMaterial(root, pepper, audit)

    def read(self) -> dict[Path, bytes]:
        """The files of `lasting` as they lie here, the secrets wrapped.

        Raises:
            ConfigurationError: NOT_INITIALISED, KEY_FILE_EXPOSED, STATE_DAMAGED.
        """
        try:
            root = self.root.read_bytes()
            return {self.root: root, **{file: read_secret(file) for file in self._secrets}}
        except FileNotFoundError as error:
            raise ConfigurationError(
                "NOT_INITIALISED",
                f"there is no {error.filename}; run `finsecure-keyservice init` first, or correct "
                "`state_dir` in the configuration",
            ) from error
        except PermissionError as error:
            raise ConfigurationError(
                "STATE_DAMAGED",
                f"{error.filename} cannot be read; run as the user who owns it",
            ) from error

    def pepper(self) -> bytes:
        """The pepper as it lies in the folder, wrapped.

        Raises:
            ConfigurationError: KEY_FILE_EXPOSED, STATE_DAMAGED.
        """
        try:
            return read_secret(self._pepper)
        except OSError as error:
            raise self._damaged() from error

    def open_pepper(self, vault: Vault, wrapped: bytes) -> SecretBytes:
        """Unwrap what `pepper` returned.

        Raises:
            ConfigurationError: STATE_DAMAGED.
            UnavailableError: what the vault raises.
        """
        try:
            return vault.open_secret(wrapped, _PEPPER)
        except IntegrityError as error:
            raise self._damaged() from error

    def write_pepper(self, vault: Vault, pepper: SecretBytes) -> None:
        """Put a pepper in the place of the present one."""
        write_file(self._pepper, vault.keep_secret(pepper, _PEPPER))

    def rewrap(self, vault: Vault, material: KeyMaterial) -> None:
        """Wrap the secrets anew, with what is the newest version of the key-encryption key."""
        self.write_pepper(vault, material.pepper)
        write_file(self._audit, vault.keep_secret(material.audit, _AUDIT))

    def _damaged(self) -> ConfigurationError:
        return ConfigurationError(
            "STATE_DAMAGED",
            f"the files in {self.path} are damaged or do not fit together; restore the backup",
        )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
