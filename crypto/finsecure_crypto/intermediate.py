"""The root's one task: to certify intermediate authorities, from their requests.

The root's key is needed here and nowhere else, so it can stay on a machine without a network:
only a request (PKCS#10, RFC 2986) comes in and only a certificate goes out.
"""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from finsecure_crypto.certificate_profile import authority_domain, authority_extensions
from finsecure_crypto.certificates import Purpose, check_request
from finsecure_crypto.errors import InvalidArgumentError, StateError

BACKDATE = timedelta(minutes=10)
"""How far validity reaches back, so that a receiver whose clock is slow accepts at once."""


def root_hash(key: ec.EllipticCurvePrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """The hash that a root of this key signs with: as long as its curve asks for."""
    return hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()


def certify_intermediate(
    public_key: ec.EllipticCurvePublicKey,
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """Certify that a key may sign leaves and revocation lists of the root's domain.

    The certificate is valid from ten minutes ago, for `lifetime` from now, and never longer than
    the root. Its name holds the first digits of its key identifier, so that the intermediates of
    one root are told apart.

    Raises:
        InvalidArgumentError: ROOT_KEY_MISMATCH when the key is not the root's.
        StateError: AUTHORITY_EXPIRED when the root's own time is over.
        AuthenticationError: CERTIFICATE_MALFORMED when `root` is not a root of this kind.
    """
    domain = authority_domain(root, root=True)
    if root_key.public_key() != root.public_key():
        raise InvalidArgumentError(
            "ROOT_KEY_MISMATCH", "the key is not that of the root certificate; name the other one"
        )
    if now >= root.not_valid_after_utc:
        raise StateError(
            "AUTHORITY_EXPIRED",
            "the root certificate has expired; found a new authority with "
            "`finsecure-keyservice init`, and let all members enrol again",
        )
    identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
    name = f"FinSecure intermediate {identifier.digest.hex()[:8]} {domain}"[:64]
    parent = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(root.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - BACKDATE, root.not_valid_before_utc))
        .not_valid_after(min(now + lifetime, root.not_valid_after_utc))
        .add_extension(identifier, critical=False)
        .add_extension(parent, critical=False)
    )
    for extension, critical in authority_extensions(domain, 0):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(root_key, root_hash(root_key))


def certify_request(
    csr_der: bytes,
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """Certify the key in a request for an intermediate authority; nothing else of it is used.

    Raises:
        InvalidArgumentError: what `check_request` raises, or ROOT_KEY_MISMATCH.
        StateError, AuthenticationError: as `certify_intermediate`.
    """
    key = check_request(csr_der, Purpose.TLS)
    assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101  # TLS means ECDSA P-256
    return certify_intermediate(key, root, root_key, now, lifetime)
