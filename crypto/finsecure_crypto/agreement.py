"""Diffie-Hellman over Curve25519 (RFC 7748) and HKDF with SHA-256 (RFC 5869)."""

import os
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from finsecure_crypto.errors import InvalidArgumentError, ProtocolViolationError
from finsecure_crypto.randomness import Randomness, draw_secret
from finsecure_crypto.secret import SecretBytes

KEY_BYTES = 32
_MAX_DERIVED_BYTES = 255 * 32  # RFC 5869, section 2.3


@dataclass(frozen=True)
class KeyPair:
    """An X25519 key pair.

    Attributes:
        public: the public key, 32 bytes.
    """

    public: bytes
    _private: X25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def from_seed(cls, seed: SecretBytes) -> "KeyPair":
        """Makes the key pair whose private key is the 32-byte seed (clamped as in RFC 7748).

        Raises:
            InvalidArgumentError: `SECRET_LENGTH`; the caller's.
        """
        if len(seed) != KEY_BYTES:
            raise InvalidArgumentError("SECRET_LENGTH", f"an X25519 seed has {KEY_BYTES} bytes")
        private = X25519PrivateKey.from_private_bytes(seed.expose())
        return cls(private.public_key().public_bytes_raw(), private)

    @classmethod
    def generate(cls, randomness: Randomness = os.urandom) -> "KeyPair":
        """Makes a fresh key pair."""
        return cls.from_seed(draw_secret(randomness, KEY_BYTES))

    def exchange(self, peer_public: bytes) -> SecretBytes:
        """Computes the 32-byte shared secret, which still has to go through `derive`.

        Raises:
            ProtocolViolationError: `PEER_KEY_INVALID` when the peer's key has another length or is
                a point of small order, whose shared secret is all zero (RFC 7748, section 6.1).
        """
        if len(peer_public) != KEY_BYTES:
            raise _invalid_peer_key(f"it has {len(peer_public)} bytes, not {KEY_BYTES}")
        try:
            return SecretBytes(self._private.exchange(_parsed(peer_public)))
        except ValueError:
            raise _invalid_peer_key("it is a point of small order") from None


@lru_cache(maxsize=4096)
def _parsed(public: bytes) -> X25519PublicKey:
    # An aggregator meets the same public keys again with every drop-out.
    return X25519PublicKey.from_public_bytes(public)


def derive(secret: SecretBytes, salt: bytes, info: bytes, length: int = KEY_BYTES) -> SecretBytes:
    """Derives a key of `length` bytes by HKDF-SHA256, extract and expand (RFC 5869).

    Raises:
        InvalidArgumentError: `KEY_LENGTH` for a length outside 1 to 8160; the caller's.
    """
    if not 1 <= length <= _MAX_DERIVED_BYTES:
        raise InvalidArgumentError("KEY_LENGTH", f"derive 1 to {_MAX_DERIVED_BYTES} bytes")
    return SecretBytes(HKDF(SHA256(), length, salt, info).derive(secret.expose()))


def _invalid_peer_key(reason: str) -> ProtocolViolationError:
    return ProtocolViolationError(
        "PEER_KEY_INVALID", f"the peer's X25519 key is not usable: {reason}; leave this peer out"
    )
