"""Every key that a session derives, so that each purpose has one place and one label.

HKDF-SHA256 with the session digest as salt and the labelled roster indices as info: a key serves
one purpose, for one client or pair, in one session.
"""

from finsecure_crypto import transcript
from finsecure_crypto.agreement import derive
from finsecure_crypto.masking import MASK_KEY_BYTES, MaskKey
from finsecure_crypto.secret import SecretBytes


def channel_key(secret: SecretBytes, session: bytes, sender: int, receiver: int) -> SecretBytes:
    """Derives the AEAD key, 32 bytes, of the share channel in one direction."""
    return derive(secret, session, transcript.encode("share-channel", sender, receiver))


def channel_associated_data(session: bytes, sender: int, receiver: int) -> bytes:
    """Returns what an encrypted share is bound to: session, sender and receiver."""
    return transcript.encode("share-envelope", session, sender, receiver)


def pairwise_mask_key(secret: SecretBytes, session: bytes, one: int, other: int) -> MaskKey:
    """Derives the mask key of a pair of clients, the same whichever is named first."""
    info = transcript.encode("pairwise-mask", min(one, other), max(one, other))
    return derive(secret, session, info, MASK_KEY_BYTES)


def pairwise_sign(own: int, peer: int) -> int:
    """Returns the sign with which `own` adds the pair's mask: + for the lower roster index."""
    return 1 if own < peer else -1


def self_mask_key(seed: SecretBytes, session: bytes, index: int) -> MaskKey:
    """Derives the key of a client's self mask from its seed, the paper's b."""
    return derive(seed, session, transcript.encode("self-mask", index), MASK_KEY_BYTES)


def self_mask_commitment(seed: SecretBytes, session: bytes, index: int) -> bytes:
    """Commits to the seed of a self mask; its 256 random bits keep the commitment hiding."""
    return transcript.digest("self-mask-commitment", session, index, seed.expose())
