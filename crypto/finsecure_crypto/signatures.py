"""Signatures of managed keys: ECDSA P-256, Ed25519, RSA-4096 PSS and ML-DSA-65, by one interface.

Sources: FIPS 186-5 (ECDSA), RFC 8032 (Ed25519), RFC 8017 section 8.1 (RSASSA-PSS; here SHA-512,
MGF1 with SHA-512, salt as long as the hash), FIPS 204 (ML-DSA, empty context). Public keys travel
as SubjectPublicKeyInfo, DER (RFC 5280, section 4.1.2.7).
"""

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.secret import SecretBytes

RSA_BITS = 4096
_RSA_EXPONENT = 65537
_PSS = padding.PSS(padding.MGF1(hashes.SHA512()), hashes.SHA512.digest_size)
_MOST_PUBLIC_BYTES = 4096
_MOST_PRIVATE_BYTES = 8192

PrivateKey = (
    ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | rsa.RSAPrivateKey
    | mldsa.MLDSA65PrivateKey
)
PublicKey = (
    ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey | mldsa.MLDSA65PublicKey
)


class SignatureAlgorithm(Enum):
    """What a managed key signs with."""

    EC_P256_SHA256 = "ec-p256-sha256"
    ED25519 = "ed25519"
    RSA_4096_PSS_SHA512 = "rsa-4096-pss-sha512"
    ML_DSA_65 = "ml-dsa-65"


class Signer(Protocol):
    """A private key that signs, wherever it is; blocking."""

    @property
    def algorithm(self) -> SignatureAlgorithm:
        """What it signs with."""

    @property
    def public_key(self) -> bytes:
        """Its public key, SubjectPublicKeyInfo in DER."""

    def sign(self, data: bytes) -> bytes:
        """Sign bytes.

        Raises:
            UnavailableError, ConfigurationError: where the key lies in a token that cannot be used.
        """


class SoftwareSigner:
    """A signer whose private key is in memory."""

    def __init__(self, algorithm: SignatureAlgorithm, private_key: PrivateKey) -> None:
        self._algorithm = algorithm
        self._key = private_key

    @classmethod
    def generate(cls, algorithm: SignatureAlgorithm) -> "SoftwareSigner":
        """Make a fresh key; the randomness is the cryptographic library's."""
        return cls(algorithm, _GENERATE[algorithm]())

    @classmethod
    def load(cls, algorithm: SignatureAlgorithm, pkcs8: SecretBytes) -> "SoftwareSigner":
        """Read a private key, PKCS#8 DER without a password.

        Raises:
            InvalidArgumentError: KEY_MALFORMED, KEY_ALGORITHM; of whoever hands it in.
        """
        try:
            if len(pkcs8) > _MOST_PRIVATE_BYTES:
                raise ValueError
            key = load_der_private_key(pkcs8.expose(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # The cause is left out: it may quote the key.
            raise InvalidArgumentError(
                "KEY_MALFORMED", "this is no private key in PKCS#8 DER without a password"
            ) from None
        if not isinstance(key, PrivateKey) or not _fits(algorithm, key.public_key()):
            raise _other_algorithm(algorithm)
        return cls(algorithm, key)

    @property
    def algorithm(self) -> SignatureAlgorithm:
        """See `Signer`."""
        return self._algorithm

    @property
    def public_key(self) -> bytes:
        """See `Signer`."""
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def private_key(self) -> PrivateKey:
        """The key itself."""
        return self._key

    def export(self) -> SecretBytes:
        """The private key, PKCS#8 DER, for wrapping it."""
        return SecretBytes(
            self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        )

    def sign(self, data: bytes) -> bytes:
        """See `Signer`."""
        key = self._key
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(data, ec.ECDSA(hashes.SHA256()))
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(data, _PSS, hashes.SHA512())
        return key.sign(data)


def verify(algorithm: SignatureAlgorithm, public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Tells whether a signature over bytes is the public key's.

    A key that is malformed or of another algorithm is one whose signatures do not verify.
    """
    try:
        key = load_public_key(algorithm, public_key)
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, _PSS, hashes.SHA512())
        else:
            key.verify(signature, data)
    except (InvalidSignature, InvalidArgumentError, ValueError):
        return False
    return True


def load_public_key(algorithm: SignatureAlgorithm, public_key: bytes) -> PublicKey:
    """Read a public key of an algorithm.

    Raises:
        InvalidArgumentError: KEY_MALFORMED, KEY_ALGORITHM; of whoever hands it in.
    """
    try:
        if len(public_key) > _MOST_PUBLIC_BYTES:
            raise ValueError
        key = load_der_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidArgumentError(
            "KEY_MALFORMED", "this is no public key in SubjectPublicKeyInfo DER"
        ) from error
    if not isinstance(key, PublicKey) or not _fits(algorithm, key):
        raise _other_algorithm(algorithm)
    return key


def _fits(algorithm: SignatureAlgorithm, key: PublicKey) -> bool:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return algorithm is SignatureAlgorithm.EC_P256_SHA256 and isinstance(
            key.curve, ec.SECP256R1
        )
    if isinstance(key, rsa.RSAPublicKey):
        return (
            algorithm is SignatureAlgorithm.RSA_4096_PSS_SHA512
            and key.key_size == RSA_BITS
            and key.public_numbers().e == _RSA_EXPONENT
        )
    if isinstance(key, ed25519.Ed25519PublicKey):
        return algorithm is SignatureAlgorithm.ED25519
    return algorithm is SignatureAlgorithm.ML_DSA_65


_GENERATE: dict[SignatureAlgorithm, Callable[[], PrivateKey]] = {
    SignatureAlgorithm.EC_P256_SHA256: lambda: ec.generate_private_key(ec.SECP256R1()),
    SignatureAlgorithm.ED25519: ed25519.Ed25519PrivateKey.generate,
    SignatureAlgorithm.RSA_4096_PSS_SHA512: lambda: rsa.generate_private_key(
        _RSA_EXPONENT, RSA_BITS
    ),
    SignatureAlgorithm.ML_DSA_65: mldsa.MLDSA65PrivateKey.generate,
}


def _other_algorithm(algorithm: SignatureAlgorithm) -> InvalidArgumentError:
    return InvalidArgumentError(
        "KEY_ALGORITHM", f"this key is not one for {algorithm.value}; name its own algorithm"
    )
