"""Sets of clients as bitmaps over the roster: bit i of octet i/8, least significant bit first."""

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto.errors import ProtocolViolationError

Members = NDArray[np.bool_]
"""Shape (roster size,): whether the client of each index is a member."""


def pack(members: Members) -> bytes:
    """Packs a set into ⌈n/8⌉ octets; unused bits are zero."""
    return np.packbits(members, bitorder="little").tobytes()


def unpack(bitmap: bytes, size: int) -> Members:
    """Reads a set over a roster of `size` clients.

    Raises:
        ProtocolViolationError: `BITMAP_MALFORMED` for another length or a bit beyond the roster;
            the sender's. The encoding is unique, so that a signed set has one signature.
    """
    if len(bitmap) != (size + 7) // 8:
        raise ProtocolViolationError(
            "BITMAP_MALFORMED",
            f"a bitmap over {size} clients has {(size + 7) // 8} octets, not {len(bitmap)}",
        )
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
    if bits[size:].any():
        raise ProtocolViolationError("BITMAP_MALFORMED", f"a bitmap over {size} clients has more")
    return bits[:size].astype(np.bool_)
