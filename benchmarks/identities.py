"""Clients with real signing certificates, of real size, and a verifier that remembers them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto.certificates import (
    Purpose,
    Role,
    SpiffeId,
    TrustAnchors,
    authority_extensions,
    leaf_extensions,
    verify_certificate,
)
from finsecure_crypto.secagg.membership import Identity
from finsecure_crypto.signing import SigningKey

_DOMAIN = "finsecure.internal"
_FEDERATION = "lending"


@dataclass(frozen=True)
class Identities:
    """The clients of a federation.

    Attributes:
        clients: by roster index, in the order of the ids.
        public_keys: Ed25519 key by certificate, each verified once.
    """

    clients: tuple[Identity, ...]
    public_keys: dict[bytes, bytes]

    @classmethod
    def issue(cls, size: int) -> "Identities":
        """Issues and verifies certificates for so many clients."""
        now = datetime.now(UTC)
        root_key = ec.generate_private_key(ec.SECP384R1())
        issuing_key = ec.generate_private_key(ec.SECP256R1())
        root_name, issuing_name = _name("Benchmark root"), _name("Benchmark issuing")
        root = _sign(
            _builder(root_name, root_name, root_key.public_key(), now),
            authority_extensions(_DOMAIN, 1),
            root_key,
        )
        issuing = _sign(
            _builder(issuing_name, root_name, issuing_key.public_key(), now),
            authority_extensions(_DOMAIN, 0),
            root_key,
        )
        anchors = TrustAnchors((root,), (issuing,))
        clients, public_keys = [], {}
        for number in range(size):
            spiffe_id = SpiffeId(f"{_FEDERATION}.{_DOMAIN}", Role.CLIENT, f"bank-{number:05d}")
            key = SigningKey.generate()
            public = ed25519.Ed25519PublicKey.from_public_bytes(key.public)
            certificate = _sign(
                _builder(x509.Name([]), issuing_name, public, now),
                leaf_extensions(spiffe_id, Purpose.SIGNING),
                issuing_key,
            )
            certified = verify_certificate(certificate, anchors, None, now, Purpose.SIGNING)
            public_keys[certificate] = certified.public_key
            clients.append(Identity(spiffe_id.id, certificate, key))
        return cls(tuple(clients), public_keys)

    def verify_peer(self, _client: str, certificate: bytes) -> bytes:
        """Returns the key of a certificate that has been verified; a `VerifyPeer`."""
        return self.public_keys[certificate]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
    now: datetime,
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(minutes=10),
        not_valid_after=now + timedelta(hours=24),
    )


def _sign(
    builder: x509.CertificateBuilder,
    extensions: list[tuple[x509.ExtensionType, bool]],
    key: ec.EllipticCurvePrivateKey,
) -> bytes:
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
