"""Authenticated encryption with AES-256-GCM (NIST SP 800-38D), a random 96-bit nonce in front.

A key seals at most 2^32 messages before random nonces may collide; the protocol derives a fresh
key for each ordered pair of clients and each round attempt, which seals one.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.randomness import Randomness, draw
from finsecure_crypto.secret import SecretBytes

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES


def seal(
    key: SecretBytes,
    plaintext: SecretBytes,
    associated: bytes,
    randomness: Randomness = os.urandom,
) -> bytes:
    """Encrypts and authenticates: nonce (12 bytes) ‖ ciphertext ‖ tag (16 bytes).

    Raises:
        InvalidArgumentError: `KEY_LENGTH` when the key has not 32 bytes; the caller's.
    """
    nonce = draw(randomness, NONCE_BYTES)
    return nonce + _cipher(key).encrypt(nonce, plaintext.expose(), associated)


def open_(key: SecretBytes, ciphertext: bytes, associated: bytes) -> SecretBytes:
    """Decrypts what `seal` returned under the same key and associated data.

    Raises:
        IntegrityError: `CIPHERTEXT_REJECTED` for anything else; the sender's or carrier's fault.
        InvalidArgumentError: `KEY_LENGTH` when the key has not 32 bytes; the caller's.
    """
    cipher = _cipher(key)
    if len(ciphertext) < OVERHEAD_BYTES:
        raise _rejected()
    try:
        return SecretBytes(
            cipher.decrypt(ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:], associated)
        )
    except InvalidTag:
        raise _rejected() from None


def _cipher(key: SecretBytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise InvalidArgumentError("KEY_LENGTH", f"an AES-256-GCM key has {KEY_BYTES} bytes")
    return AESGCM(key.expose())


def _rejected() -> IntegrityError:
    return IntegrityError(
        "CIPHERTEXT_REJECTED",
        "a ciphertext was changed, cut, or made for another receiver, sender or round; drop it",
    )
