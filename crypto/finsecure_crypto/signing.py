"""Ed25519 signatures (RFC 8032) over labelled transcripts."""

import os
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from finsecure_crypto import transcript
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.randomness import Randomness, draw_secret
from finsecure_crypto.secret import SecretBytes

SEED_BYTES = 32
SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 signing key.

    Attributes:
        public: the verification key, 32 bytes.
        seed: the private key of RFC 8032, 32 bytes, for storing it.
    """

    public: bytes
    seed: SecretBytes = field(repr=False, compare=False)
    _private: Ed25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def from_seed(cls, seed: SecretBytes) -> "SigningKey":
        """Makes the signing key of a 32-byte seed.

        Raises:
            InvalidArgumentError: `SECRET_LENGTH`; the caller's.
        """
        if len(seed) != SEED_BYTES:
            raise InvalidArgumentError("SECRET_LENGTH", f"an Ed25519 seed has {SEED_BYTES} bytes")
        private = Ed25519PrivateKey.from_private_bytes(seed.expose())
        return cls(private.public_key().public_bytes_raw(), seed, private)

    @classmethod
    def generate(cls, randomness: Randomness = os.urandom) -> "SigningKey":
        """Makes a fresh signing key."""
        return cls.from_seed(draw_secret(randomness, SEED_BYTES))

    def sign(self, label: str, *parts: transcript.Part) -> bytes:
        """Signs the transcript of labelled parts and returns the 64-byte signature.

        Raises:
            InvalidArgumentError: `TRANSCRIPT_PART`, as `transcript.encode`.
        """
        return self._private.sign(transcript.encode(label, *parts))


def verify(public: bytes, signature: bytes, label: str, *parts: transcript.Part) -> bool:
    """Tells whether `signature` is `public`'s over the transcript of labelled parts.

    A key or signature of another length, or a key that is no point of the curve, is not an error
    but a signature that does not verify: both come from a peer.

    Raises:
        InvalidArgumentError: `TRANSCRIPT_PART`, as `transcript.encode`.
    """
    signed = transcript.encode(label, *parts)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True
