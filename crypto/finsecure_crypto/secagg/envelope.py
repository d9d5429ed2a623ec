"""The encrypted pair of shares that one client sends another through the server (ShareKeys).

Inside the AES-256-GCM envelope: sender ‖ receiver ‖ share of the mask-key seed ‖ share of the
self-mask seed, the indices as big-endian uint32. The paper has the indices inside; they are in
the associated data as well.
"""

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import aead, shamir
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.randomness import Randomness
from finsecure_crypto.secagg import derivation, items
from finsecure_crypto.secret import SecretBytes

_HEADER = struct.Struct(">II")
CIPHERTEXT_BYTES = aead.OVERHEAD_BYTES + _HEADER.size + 2 * shamir.SHARE_BYTES


@dataclass(frozen=True)
class SharePair:
    """One holder's shares of one client's two secrets, of which it may reveal one.

    Attributes:
        mask_key: share of the seed of the mask key, 36 bytes.
        self_mask: share of the seed of the self mask, 36 bytes.
    """

    mask_key: SecretBytes = field(repr=False)
    self_mask: SecretBytes = field(repr=False)

    @classmethod
    def from_limbs(cls, limbs: NDArray[np.uint32]) -> "SharePair":
        """Takes the shares as `shamir.split` returns them, shape (2, 9): mask key, self mask."""
        mask_key, self_mask = items.split(shamir.shares_to_bytes(limbs), shamir.SHARE_BYTES)
        return cls(SecretBytes(mask_key), SecretBytes(self_mask))


def seal(
    key: SecretBytes,
    session: bytes,
    sender: int,
    receiver: int,
    pair: SharePair,
    randomness: Randomness,
) -> bytes:
    """Encrypts a pair of shares for its holder, `CIPHERTEXT_BYTES` long."""
    plaintext = SecretBytes(
        _HEADER.pack(sender, receiver) + pair.mask_key.expose() + pair.self_mask.expose()
    )
    associated = derivation.channel_associated_data(session, sender, receiver)
    return aead.seal(key, plaintext, associated, randomness)


def open_(
    key: SecretBytes, session: bytes, sender: int, receiver: int, ciphertext: bytes
) -> SharePair | None:
    """Decrypts a pair of shares, or returns None where it is not readable.

    Whether the sender or the carrier spoilt it cannot be told, and one bad envelope must not stop
    the round: the holder reports it as unreadable.
    """
    associated = derivation.channel_associated_data(session, sender, receiver)
    try:
        plaintext = aead.open_(key, ciphertext, associated).expose()
        if len(plaintext) != CIPHERTEXT_BYTES - aead.OVERHEAD_BYTES:
            return None
        shares = plaintext[_HEADER.size :]
        shamir.shares_from_bytes(shares)
    except IntegrityError:
        return None
    if _HEADER.unpack_from(plaintext) != (sender, receiver):
        return None
    mask_key, self_mask = items.split(shares, shamir.SHARE_BYTES)
    return SharePair(SecretBytes(mask_key), SecretBytes(self_mask))
