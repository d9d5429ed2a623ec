"""The two key pairs of an identity and the requests that prove they are held (RFC 2986)."""

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signing import SigningKey


@dataclass(frozen=True)
class NewKeys:
    """Fresh keys that nobody has certified yet.

    Attributes:
        tls_key_pem: private ECDSA P-256 key, PKCS#8 PEM.
        tls_csr: PKCS#10 request for it, DER.
        signing_key: private Ed25519 key.
        signing_csr: PKCS#10 request for it, DER.
    """

    tls_key_pem: SecretBytes = field(repr=False)
    tls_csr: bytes
    signing_key: SigningKey = field(repr=False)
    signing_csr: bytes


def new_keys() -> NewKeys:
    """Make both keys of an identity and their requests.

    The requests carry no name: the authority knows who may have which.
    """
    nameless = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    tls_key = ec.generate_private_key(ec.SECP256R1())
    signing_key = SigningKey.generate()
    signing_private = ed25519.Ed25519PrivateKey.from_private_bytes(signing_key.seed.expose())
    return NewKeys(
        tls_key_pem=SecretBytes(
            tls_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        ),
        tls_csr=nameless.sign(tls_key, hashes.SHA256()).public_bytes(Encoding.DER),
        signing_key=signing_key,
        signing_csr=nameless.sign(signing_private, None).public_bytes(Encoding.DER),
    )
