"""What a contributor signs: a label and parts, the same for signer and verifier."""

from finsecure_crypto.transcript import Part

Statement = tuple[str, *tuple[Part, ...]]


def encrypted_input(context: bytes, key_digest: bytes, size_bytes: int, sha256: bytes) -> Statement:
    """States that the contributor's input under this key has this size and digest.

    The context is the digest of the round, or of the sum, that the input is for.
    """
    return ("encrypted-input", context, key_digest, size_bytes, sha256)
