"""A signer as an elliptic-curve private key, as the X.509 builders of `cryptography` take it."""

from typing import Any, NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from finsecure_crypto.errors import InternalError
from finsecure_crypto.signatures import (
    SignatureAlgorithm,
    Signer,
    SoftwareSigner,
    load_public_key,
)


def authority_key(signer: Signer) -> ec.EllipticCurvePrivateKey:
    """The P-256 key behind a signer; itself where it is in memory, which is faster."""
    if isinstance(signer, SoftwareSigner) and isinstance(
        signer.private_key, ec.EllipticCurvePrivateKey
    ):
        return signer.private_key
    return AuthorityKey(signer)


class AuthorityKey(ec.EllipticCurvePrivateKey):
    """A P-256 key of a certificate authority that signs through a `Signer`.

    It does what issuing takes, ECDSA with SHA-256, and nothing else.
    """

    def __init__(self, signer: Signer) -> None:
        key = load_public_key(SignatureAlgorithm.EC_P256_SHA256, signer.public_key)
        assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101  # by its algorithm
        self._public_key = key
        self._signer = signer

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Sign with ECDSA and SHA-256; DER."""
        if not isinstance(signature_algorithm, ec.ECDSA) or not isinstance(
            signature_algorithm.algorithm, hashes.SHA256
        ):
            raise _not_offered()
        return self._signer.sign(bytes(data))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public key."""
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        """256."""
        return self._public_key.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Not offered."""
        raise _not_offered()

    def private_numbers(self) -> NoReturn:
        """Not offered: the key does not leave its place."""
        raise _not_offered()

    def private_bytes(
        self,
        encoding: object,
        format: object,  # noqa: A002  # its name in the library
        encryption_algorithm: object,
    ) -> NoReturn:
        """Not offered: the key does not leave its place."""
        raise _not_offered()

    def __copy__(self) -> "AuthorityKey":
        return self

    def __deepcopy__(self, memo: object) -> "AuthorityKey":
        return self


def _not_offered() -> InternalError:
    return InternalError(
        "KEY_USE_NOT_OFFERED", "an authority's key signs with ECDSA and SHA-256 and nothing else"
    )
