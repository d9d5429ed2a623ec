"""A tiny certificate authority for tests: any SPIFFE ID, any defect, identity folders on disk.

>>> pki = TestAuthority("finsecure.internal")
>>> store = pki.enrol(folder, "client", "bank-a", federation="lending")
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto.certificates import (
    Purpose,
    RevocationList,
    Role,
    SpiffeId,
    TrustAnchors,
    authority_extensions,
    leaf_extensions,
)
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signing import SigningKey
from finsecure_rpc.identity_store import Credentials, IdentityStore

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Authority:
    """One CA certificate with its key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def make_authority(
    name: str,
    domain: str,
    issuer: Authority | None,
    *,
    extensions: list | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> Authority:
    """A root (no issuer) or an intermediate."""
    now = utc_now()
    key = ec.generate_private_key(ec.SECP384R1() if issuer is None else ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or now - timedelta(days=1))
        .not_valid_after(not_after or now + timedelta(days=365))
    )
    for extension, critical in extensions or authority_extensions(
        domain, 1 if issuer is None else 0
    ):
        builder = builder.add_extension(extension, critical)
    signer = key if issuer is None else issuer.key
    return Authority(key, builder.sign(signer, hashes.SHA384()))


@dataclass
class TestAuthority:
    """Root, intermediate and revocation list of one domain; also a `RevocationSource`."""

    __test__ = False  # pytest: this is no test class

    domain: str = "finsecure.internal"
    root: Authority = field(init=False)
    intermediate: Authority = field(init=False)
    revoked: set[int] = field(default_factory=set)
    crl_number: int = 0
    crl_lifetime: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        self.root = make_authority("test root", self.domain, None)
        self.intermediate = make_authority("test intermediate", self.domain, self.root)
        self._current: RevocationList | None = None

    @property
    def anchors(self) -> TrustAnchors:
        return TrustAnchors((self.root.der,), (self.intermediate.der,))

    def spiffe_id(self, role: Role | str, id_: str, federation: str = "lending") -> SpiffeId:
        role = Role(role)
        domain = f"{federation}.{self.domain}" if role.federated else self.domain
        return SpiffeId(domain, role, id_)

    def issue(
        self,
        spiffe_id: SpiffeId,
        purpose: Purpose,
        public_key: PublicKey,
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        extensions: list | None = None,
        issuer: Authority | None = None,
        serial: int | None = None,
        hash_algorithm: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        """A leaf certificate, DER; every part can be bent for a test."""
        issuer = issuer or self.intermediate
        now = utc_now()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer.certificate.subject)
            .public_key(public_key)
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(not_before or now - timedelta(minutes=10))
            .not_valid_after(not_after or now + timedelta(hours=24))
        )
        given = leaf_extensions(spiffe_id, purpose) if extensions is None else extensions
        for extension, critical in given:
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(issuer.key, hash_algorithm or hashes.SHA256())
        return certificate.public_bytes(Encoding.DER)

    def credentials(self, spiffe_id: SpiffeId, **validity: datetime) -> Credentials:
        """Fresh keys and certificates; keywords as in `issue`."""
        tls_key = ec.generate_private_key(ec.SECP256R1())
        signing_key = SigningKey.generate()
        signing_public = ed25519.Ed25519PublicKey.from_public_bytes(signing_key.public)
        return Credentials(
            tls_key_pem=SecretBytes(
                tls_key.private_bytes(
                    Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            ),
            signing_key=signing_key,
            tls_certificate=self.issue(spiffe_id, Purpose.TLS, tls_key.public_key(), **validity),
            signing_certificate=self.issue(spiffe_id, Purpose.SIGNING, signing_public, **validity),
            anchors=self.anchors,
            member={"spiffe_id": str(spiffe_id)},
        )

    def enrol(
        self,
        folder: Path,
        role: Role | str,
        id_: str,
        *,
        federation: str = "lending",
        **validity: datetime,
    ) -> IdentityStore:
        """An identity folder on disk, as after an enrolment; call it again to renew."""
        store = IdentityStore(folder)
        store.save(self.credentials(self.spiffe_id(role, id_, federation), **validity))
        return store

    def revoke(self, *serials: int) -> None:
        """Revoke and publish a new list."""
        self.revoked.update(serials)
        self._current = None

    def crl(
        self,
        *,
        number: int | None = None,
        next_update: datetime | None = None,
        signer: Authority | None = None,
        serials: Iterable[int] | None = None,
    ) -> bytes:
        """A revocation list, DER."""
        if number is None:
            self.crl_number += 1
            number = self.crl_number
        signer = signer or self.intermediate
        now = utc_now()
        next_update = next_update or now + self.crl_lifetime
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(signer.certificate.subject)
            .last_update(min(now, next_update) - timedelta(minutes=10))
            .next_update(next_update)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for serial in self.revoked if serials is None else serials:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            )
        return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def current(self) -> RevocationList:
        """Newest revocation list (so that this object is a `RevocationSource`)."""
        if self._current is None:
            self._current = RevocationList.parse(self.crl(), self.anchors, utc_now())
        return self._current
