"""What each signature of the protocol covers: a label and parts, the same for signer and verifier.

Every statement starts with the round's context or session, so that no signature can be replayed
into another round attempt or into another view of the same one.
"""

from finsecure_crypto.transcript import Part

Statement = tuple[str, *tuple[Part, ...]]


def advertise_keys(context: bytes, client: str, channel_key: bytes, mask_key: bytes) -> Statement:
    """States that these are the client's public keys in the round with this context."""
    return ("advertise-keys", context, client, channel_key, mask_key)


def share_keys(session: bytes, commitment: bytes, shares_digest: bytes) -> Statement:
    """States that the client committed to a self mask and sent shares with this digest."""
    return ("share-keys", session, commitment, shares_digest)


def masked_input(session: bytes, size_bytes: int, sha256: bytes) -> Statement:
    """States that the client's masked vector has this size and digest."""
    return ("masked-input", session, size_bytes, sha256)


def survivors(session: bytes, bitmap: bytes) -> Statement:
    """States that the client was told this set of survivors, and no other."""
    return ("survivors", session, bitmap)
