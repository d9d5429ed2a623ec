"""Bringing a key that exists into the key service: hybrid public-key encryption (RFC 9180).

Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, base mode. The info binds the import
job and the key that it is for, so that a wrapped key fits nowhere else.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from finsecure_crypto import transcript
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.secret import SecretBytes

MAXIMUM_WRAPPED_BYTES = 8192
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def wrap_for_import(key: SecretBytes, job: str, job_key: bytes, crypto_key: str) -> bytes:
    """Encrypt a key to an import job.

    Args:
        key: a private key in PKCS#8 DER, or 32 bytes of an AES key.
        job: resource name of the import job.
        job_key: its X25519 public key, 32 bytes.
        crypto_key: resource name of the key that gets the new version.

    Returns:
        Encapsulated key (32 bytes), ciphertext and tag.

    Raises:
        InvalidArgumentError: KEY_MALFORMED if `job_key` is none; of whoever hands it in.
    """
    try:
        public = X25519PublicKey.from_public_bytes(job_key)
    except ValueError:
        raise InvalidArgumentError(
            "KEY_MALFORMED", "the public key of an import job has 32 bytes"
        ) from None
    return _SUITE.encrypt(key.expose(), public, _info(job, crypto_key))


def unwrap_import(
    wrapped: bytes, job: str, job_private: SecretBytes, crypto_key: str
) -> SecretBytes:
    """Decrypt what `wrap_for_import` made for the same job and key.

    Raises:
        IntegrityError: WRAPPED_KEY_REJECTED for anything else; the sender's.
    """
    private = X25519PrivateKey.from_private_bytes(job_private.expose())
    try:
        if len(wrapped) > MAXIMUM_WRAPPED_BYTES:
            raise ValueError
        return SecretBytes(_SUITE.decrypt(wrapped, private, _info(job, crypto_key)))
    except (InvalidTag, ValueError):
        raise IntegrityError(
            "WRAPPED_KEY_REJECTED",
            "the wrapped key was changed, or was wrapped for another import job or key; wrap it "
            "again",
        ) from None


def _info(job: str, crypto_key: str) -> bytes:
    return transcript.encode("key-import", job, crypto_key)
