"""The identity folder on disk: keys, certificates and the pinned root of one member.

A renewal must never leave a new key beside an old certificate, whenever the power fails, so each
set of files is written into a folder of its own and becomes current by renaming one symbolic
link. The names that people see (`tls.key`, `tls.crt`, …) are links through that one.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto.certificates import (
    Certified,
    Purpose,
    SpiffeId,
    TrustAnchors,
    verify_certificate,
)
from finsecure_crypto.errors import AuthenticationError, ConfigurationError, FinSecureError
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signing import SigningKey

from finsecure_rpc.durable import replace_link, sync_folder, write_file

FILES = ("tls.key", "tls.crt", "signing.key", "signing.crt", "bundle.pem", "member.json")
_KEPT_GENERATIONS = 2


@dataclass(frozen=True)
class Credentials:
    """What one enrolment or renewal yields, before it is on disk.

    Attributes:
        tls_key_pem: private ECDSA P-256 key, PKCS#8 PEM.
        signing_key: private Ed25519 key.
        tls_certificate: TLS certificate, DER.
        signing_certificate: signing certificate, DER.
        anchors: the authorities that issued them.
        member: what the key service says of the member, for people (`member.json`).
    """

    tls_key_pem: SecretBytes
    signing_key: SigningKey
    tls_certificate: bytes
    signing_certificate: bytes
    anchors: TrustAnchors
    member: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """One consistent set of keys and certificates, as read from disk.

    Attributes:
        certified: what the TLS certificate says.
        signing: what the signing certificate says.
        root_pem: pinned root certificates, PEM.
        tls_key_pem: private TLS key, PKCS#8 PEM.
        tls_chain_pem: TLS certificate and the intermediates, PEM.
        signing_key: private signing key.
        signing_certificate: signing certificate, DER.
        anchors: the authorities that are believed.
        generation: grows with each renewal.
        member: content of `member.json`.
    """

    certified: Certified
    signing: Certified
    root_pem: bytes = field(repr=False)
    tls_key_pem: SecretBytes = field(repr=False)
    tls_chain_pem: bytes = field(repr=False)
    signing_key: SigningKey = field(repr=False)
    signing_certificate: bytes = field(repr=False)
    anchors: TrustAnchors = field(repr=False)
    generation: int
    member: dict[str, str]

    @property
    def spiffe_id(self) -> SpiffeId:
        """Whose identity it is."""
        return self.certified.spiffe_id


class IdentityProvider(Protocol):
    """Whoever can hand out the newest identity."""

    def current(self) -> Identity:
        """The newest identity."""
        ...


class IdentityStore:
    """One identity folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cached: tuple[str, Identity] | None = None

    def exists(self) -> bool:
        """Whether an enrolment has been completed here."""
        return (self.folder / "current").is_symlink()

    def current(self) -> Identity:
        """Read the newest identity; cheap when it has not changed since the last call.

        Raises:
            ConfigurationError: IDENTITY_MISSING or IDENTITY_DAMAGED.
        """
        try:
            target = str((self.folder / "current").readlink())
        except OSError as error:
            raise ConfigurationError(
                "IDENTITY_MISSING", f"There is no identity in {self.folder}: enrol first."
            ) from error
        if self._cached is None or self._cached[0] != target:
            self._cached = (target, self._load(self.folder / target))
        return self._cached[1]

    def _load(self, generation: Path) -> Identity:
        try:
            root_pem = (self.folder / "root.pem").read_bytes()
            content = {name: (generation / name).read_bytes() for name in FILES}
            return _assemble(int(generation.name), root_pem, content)
        except (OSError, ValueError, TypeError, FinSecureError) as error:
            reason = str(error) if isinstance(error, FinSecureError) else type(error).__name__
            raise ConfigurationError(
                "IDENTITY_DAMAGED",
                f"The identity in {self.folder} cannot be read ({reason}): restore it, or empty "
                "the folder and enrol again with a new API key.",
            ) from error

    def save(self, credentials: Credentials) -> Identity:
        """Write a new generation and make it current in one step.

        Raises:
            ConfigurationError: IDENTITY_DAMAGED when keys, certificates and the pinned root do
                not fit together; nothing is changed then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        generations = self.folder / "generations"
        generations.mkdir(mode=0o700, exist_ok=True)
        root = self.folder / "root.pem"
        if not root.exists():
            write_file(root, _pem(credentials.anchors.roots), mode=0o644)
        number = 1 + max((int(path.name) for path in generations.iterdir()), default=0)
        place = generations / str(number)
        place.mkdir(mode=0o700)
        try:
            for name, content in _files(credentials).items():
                write_file(place / name, content, mode=0o600 if name.endswith(".key") else 0o644)
            identity = self._load(place)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        sync_folder(generations)
        replace_link(self.folder / "current", Path("generations") / str(number))
        for name in FILES:
            if not (self.folder / name).is_symlink():
                replace_link(self.folder / name, Path("current") / name)
        for path in generations.iterdir():
            if int(path.name) <= number - _KEPT_GENERATIONS:
                shutil.rmtree(path)
        return identity

    def adopt(self, intermediates: tuple[bytes, ...]) -> Identity:
        """Believe these intermediates, DER, from now on, below the same pinned root.

        Raises:
            AuthenticationError: CERTIFICATE_* when one is not of the pinned root; the fault of
                whoever supplied it.
            ConfigurationError: IDENTITY_DAMAGED when the own certificates are of none of them;
                nothing is changed then.
        """
        present = self.current()
        if set(intermediates) == set(present.anchors.intermediates):
            return present
        return self.save(
            Credentials(
                tls_key_pem=present.tls_key_pem,
                signing_key=present.signing_key,
                tls_certificate=_ders(present.tls_chain_pem)[0],
                signing_certificate=present.signing_certificate,
                anchors=TrustAnchors(present.anchors.roots, intermediates),
                member=present.member,
            )
        )


def _files(credentials: Credentials) -> dict[str, bytes]:
    signing_private = ed25519.Ed25519PrivateKey.from_private_bytes(
        credentials.signing_key.seed.expose()
    )
    return {
        "tls.key": credentials.tls_key_pem.expose(),
        "tls.crt": _pem([credentials.tls_certificate, *credentials.anchors.intermediates]),
        "signing.key": signing_private.private_bytes(
            Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        "signing.crt": _pem([credentials.signing_certificate]),
        "bundle.pem": _pem(credentials.anchors.intermediates),
        "member.json": json.dumps(credentials.member, indent=2).encode() + b"\n",
    }


def _assemble(generation: int, root_pem: bytes, content: dict[str, bytes]) -> Identity:
    """Check that the pieces fit together; time and revocation are checked where they are used."""
    anchors = TrustAnchors(tuple(_ders(root_pem)), tuple(_ders(content["bundle.pem"])))
    tls_der = _ders(content["tls.crt"])[0]
    signing_der = _ders(content["signing.crt"])[0]
    certified = _certified(tls_der, anchors, Purpose.TLS)
    signing = _certified(signing_der, anchors, Purpose.SIGNING)
    tls_key = serialization.load_pem_private_key(content["tls.key"], password=None)
    signing_private = serialization.load_pem_private_key(content["signing.key"], password=None)
    if not isinstance(tls_key, ec.EllipticCurvePrivateKey):
        raise AuthenticationError("CERTIFICATE_MALFORMED", "tls.key is not an ECDSA key.")
    if not isinstance(signing_private, ed25519.Ed25519PrivateKey):
        raise AuthenticationError("CERTIFICATE_MALFORMED", "signing.key is not an Ed25519 key.")
    tls_public = tls_key.public_key().public_bytes(
        Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signing_key = SigningKey.from_seed(SecretBytes(signing_private.private_bytes_raw()))
    if tls_public != certified.public_key or signing_key.public != signing.public_key:
        raise AuthenticationError("CERTIFICATE_UNTRUSTED", "A key does not fit its certificate.")
    if certified.spiffe_id != signing.spiffe_id:
        raise AuthenticationError("CERTIFICATE_UNTRUSTED", "The certificates are not of one owner.")
    return Identity(
        certified=certified,
        signing=signing,
        root_pem=root_pem,
        tls_key_pem=SecretBytes(content["tls.key"]),
        tls_chain_pem=content["tls.crt"],
        signing_key=signing_key,
        signing_certificate=signing_der,
        anchors=anchors,
        generation=generation,
        member={str(key): str(value) for key, value in json.loads(content["member.json"]).items()},
    )


def _certified(der: bytes, anchors: TrustAnchors, purpose: Purpose) -> Certified:
    # An expired identity must still load, so that its owner is told what to do about it.
    moment = x509.load_der_x509_certificate(der).not_valid_before_utc
    issued = max(
        moment,
        *(
            x509.load_der_x509_certificate(item).not_valid_before_utc
            for item in (*anchors.roots, *anchors.intermediates)
        ),
    )
    return verify_certificate(der, anchors, None, issued, purpose)


def _pem(ders: "tuple[bytes, ...] | list[bytes]") -> bytes:
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in ders)


def _ders(pem: bytes) -> list[bytes]:
    return [
        certificate.public_bytes(Encoding.DER)
        for certificate in x509.load_pem_x509_certificates(pem)
    ]
