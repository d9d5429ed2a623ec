"""Integers packed side by side into the lanes of uint64 words.

A word has ⌊64 / lane_bits⌋ lanes, the first value in the lowest; bits above the lanes are zero.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 64

_TILE_WORDS = 2**14  # with a few lanes of intermediate values, this stays in the cache of a core

Words = NDArray[np.uint64]


def words_for(length: int, lane_bits: int) -> int:
    """Returns how many words hold `length` lanes."""
    return -(-length // (WORD_BITS // lane_bits))


def tiles(words: Words, lane_bits: int) -> Iterator[tuple[Words, slice]]:
    """Cuts words into views of bounded size, each with the range of the values that go there."""
    count = WORD_BITS // lane_bits
    for start in range(0, words.size, _TILE_WORDS):
        tile = words[start : start + _TILE_WORDS]
        yield tile, slice(start * count, (start + tile.size) * count)


def pack(values: Words, lane_bits: int, words: Words) -> None:
    """Packs values, each below 2^lane_bits, into words, which are zero before."""
    count = WORD_BITS // lane_bits
    padded = np.zeros(words.size * count, np.uint64)
    padded[: values.size] = values
    for lane in range(count):
        words |= padded[lane::count] << np.uint64(lane * lane_bits)


def unpack(words: Words, lane_bits: int, length: int) -> Words | None:
    """Unpacks the first `length` lanes; None if a bit is set above or behind them."""
    count = WORD_BITS // lane_bits
    mask = np.uint64(2**lane_bits - 1)
    values = np.empty(words.size * count, np.uint64)
    rest = words
    for lane in range(count):
        values[lane::count] = rest & mask
        # A shift by the whole word is undefined: two shifts reach a lane of 64 bits.
        rest = (rest >> np.uint64(lane_bits - 1)) >> np.uint64(1)
    return None if np.any(rest) or np.any(values[length:]) else values[:length]
