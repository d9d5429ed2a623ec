"""Encrypts a secret to the holder of an X25519 key, who may be offline.

An ephemeral key pair, Diffie-Hellman, HKDF and AES-256-GCM, in the order of HPKE's base mode (RFC
9180, section 5.1.1), though not in its wire format. It hides and protects the plaintext but says
nothing of who sealed it: whoever has to know signs the sealed bytes.
"""

import os

from finsecure_crypto import aead, transcript
from finsecure_crypto.agreement import KEY_BYTES, KeyPair, derive
from finsecure_crypto.errors import IntegrityError, ProtocolViolationError
from finsecure_crypto.randomness import Randomness
from finsecure_crypto.secret import SecretBytes

OVERHEAD_BYTES = KEY_BYTES + aead.OVERHEAD_BYTES


def seal(
    recipient: bytes, plaintext: SecretBytes, context: bytes, randomness: Randomness = os.urandom
) -> bytes:
    """Seals a secret: ephemeral public key (32 bytes) ‖ AEAD ciphertext.

    Args:
        recipient: X25519 public key, 32 bytes, that the caller has verified to be the receiver's.
        plaintext: the secret.
        context: what it is for; opens under the same context alone.
        randomness: of the ephemeral key and the nonce.

    Raises:
        ProtocolViolationError: `PEER_KEY_INVALID`; the recipient's.
    """
    ephemeral = KeyPair.generate(randomness)
    key = _key(ephemeral.exchange(recipient), ephemeral.public, recipient, context)
    return ephemeral.public + aead.seal(key, plaintext, context, randomness)


def open_sealed(recipient: KeyPair, sealed: bytes, context: bytes) -> SecretBytes:
    """Opens what was sealed to the recipient's public key under the same context.

    Raises:
        IntegrityError: `CIPHERTEXT_REJECTED` for anything else; the sender's or carrier's.
    """
    ephemeral = sealed[:KEY_BYTES]
    try:
        shared = recipient.exchange(ephemeral)
    except ProtocolViolationError as error:
        raise IntegrityError(
            "CIPHERTEXT_REJECTED", "a sealed secret has no usable ephemeral key; ask for it again"
        ) from error
    key = _key(shared, ephemeral, recipient.public, context)
    return aead.open_(key, sealed[KEY_BYTES:], context)


def _key(shared: SecretBytes, ephemeral: bytes, recipient: bytes, context: bytes) -> SecretBytes:
    # Both public keys go in, as HPKE's kem_context: the same point in another encoding is another
    # key.
    return derive(shared, context, transcript.encode("sealing", ephemeral, recipient))
