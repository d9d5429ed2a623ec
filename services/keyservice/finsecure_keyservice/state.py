"""The folder of key material: the authority's keys and certificates, and two secrets."""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.durable import read_secret, write_file

from finsecure_keyservice.authority import Authority, Root

SECRET_BYTES = 32


@dataclass(frozen=True)
class KeyMaterial:
    """What the running service holds in memory: never the root's key."""

    authority: Authority
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
    def _intermediate(self) -> Path:
        return self.path / "intermediate.pem"

    @property
    def _intermediate_key(self) -> Path:
        return self.path / "intermediate.key"

    @property
    def _pepper(self) -> Path:
        return self.path / "api-key.pepper"

    @property
    def _audit(self) -> Path:
        return self.path / "audit.secret"

    def occupied(self) -> Path | None:
        """A file that an earlier `init` left here, if there is one."""
        files = (
            *(self.root, self.root_key, self._intermediate, self._intermediate_key),
            *(self._pepper, self._audit),
        )
        return next((file for file in files if file.exists()), None)

    def write(self, root: Root, root_key: Path, material: KeyMaterial) -> None:
        """Write everything; the folder is readable by its owner alone."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        write_file(root_key, _key_pem(root.key))
        write_file(self._intermediate_key, _key_pem(material.authority.key))
        write_file(self._pepper, material.pepper.expose())
        write_file(self._audit, material.audit.expose())
        intermediate = material.authority.certificate.public_bytes(Encoding.PEM)
        write_file(self._intermediate, intermediate, mode=0o644)
        write_file(self.root, root.certificate.public_bytes(Encoding.PEM), mode=0o644)

    def load(self) -> KeyMaterial:
        """Read what the running service needs.

        Raises:
            ConfigurationError: NOT_INITIALISED, KEY_FILE_EXPOSED or STATE_DAMAGED.
        """
        try:
            root = x509.load_pem_x509_certificate(self.root.read_bytes())
            certificate = x509.load_pem_x509_certificate(self._intermediate.read_bytes())
            key = load_pem_private_key(read_secret(self._intermediate_key), password=None)
            pepper = read_secret(self._pepper)
            audit = read_secret(self._audit)
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
        except ValueError as error:
            raise self._damaged() from error
        if (
            not isinstance(key, ec.EllipticCurvePrivateKey)
            or key.public_key() != certificate.public_key()
            or len(pepper) != SECRET_BYTES
            or len(audit) != SECRET_BYTES
        ):
            raise self._damaged()
        return KeyMaterial(
            Authority(root, certificate, key), SecretBytes(pepper), SecretBytes(audit)
        )

    def _damaged(self) -> ConfigurationError:
        return ConfigurationError(
            "STATE_DAMAGED",
            f"the files in {self.path} are damaged or do not fit together; restore the backup",
        )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
