"""Masks from AES-128 in counter mode, added to vectors over Z_{2^64} without being stored.

PRG of Bonawitz et al. (CCS 2017), section 4: the keystream of AES-128-CTR (NIST SP 800-38A,
section 6.5) with an initial counter block of zero, read as little-endian uint64. The keystream is
made tile by tile, so that it is added while it is still in the cache of the core; memory is that
of a tile and of a bounded group of cipher contexts, whatever the number of masks.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.secret import SecretBytes

MASK_KEY_BYTES = 16
WORD_BYTES = 8
MAX_KEYSTREAM_BYTES = 2**36

MaskKey = SecretBytes  # of MASK_KEY_BYTES bytes
Words = NDArray[np.uint64]

_BLOCK_WORDS = 2  # an AES block is 16 bytes
# 128 KiB: a tile of zeros, keystream and vector each fit into a 1 MiB L2 cache together, and leave
# room for the cipher contexts; docs/benchmarks.md has the measurements.
_TILE_WORDS = 2**14
_GROUP = 64  # cipher contexts alive at once in a thread
_COMBINE = {+1: np.add, -1: np.subtract}
_ZEROS = memoryview(bytes(_TILE_WORDS * WORD_BYTES))


def apply_masks(
    accumulator: Words,
    keys: Sequence[tuple[MaskKey, int]],
    *,
    first_word: int = 0,
    threads: int = 1,
) -> None:
    """Adds or subtracts the mask of every key to the accumulator, in place, modulo 2^64.

    Args:
        accumulator: uint64, shape (w,), contiguous and writeable: words `first_word` to
            `first_word + w` of a vector.
        keys: 16-byte keys, each with +1 to add its mask or -1 to subtract it.
        first_word: where in the keystream the accumulator starts; even, since a block of the
            cipher has two words.
        threads: how many threads share the words between them. The cipher releases the
            interpreter's lock; each thread pays off from some MiB of keystream on.

    Raises:
        InvalidArgumentError: `MASK_KEY`, `MASK_RANGE` or `VECTOR_SHAPE`; the caller's.
    """
    _check(accumulator, keys, first_word, threads)
    spans = _spans(accumulator.size, threads)
    if len(spans) <= 1:
        _apply(accumulator, keys, first_word)
        return
    with ThreadPoolExecutor(len(spans)) as pool:
        done = [
            pool.submit(_apply, accumulator[span], keys, first_word + span.start) for span in spans
        ]
        for future in done:
            future.result()


def _apply(accumulator: Words, keys: Sequence[tuple[MaskKey, int]], first_word: int) -> None:
    keystream = np.empty(_TILE_WORDS, "<u8")
    target = keystream.view(np.uint8).data
    counter = CTR((first_word // _BLOCK_WORDS).to_bytes(16, "big"))
    for group_start in range(0, len(keys), _GROUP):
        streams = [
            (Cipher(AES128(key.expose()), counter).encryptor().update_into, _COMBINE[sign])
            for key, sign in keys[group_start : group_start + _GROUP]
        ]
        for start in range(0, accumulator.size, _TILE_WORDS):
            tile = accumulator[start : start + _TILE_WORDS]
            mask = keystream[: tile.size]
            zeros = _ZEROS[: tile.nbytes]
            for encrypt_into, combine in streams:
                encrypt_into(zeros, target)
                combine(tile, mask, tile)


def _spans(words: int, threads: int) -> list[slice]:
    """Cuts the words into at most `threads` ranges that start at whole tiles."""
    tiles = -(-words // _TILE_WORDS)
    step = max(1, -(-tiles // threads)) * _TILE_WORDS
    return [slice(start, min(start + step, words)) for start in range(0, words, step)]


def _check(
    accumulator: Words, keys: Sequence[tuple[MaskKey, int]], first_word: int, threads: int
) -> None:
    if (
        accumulator.ndim != 1
        or accumulator.dtype != np.uint64
        or not accumulator.flags.c_contiguous
        or not accumulator.flags.writeable
    ):
        raise InvalidArgumentError(
            "VECTOR_SHAPE", "masks go into a contiguous, writeable, one-dimensional uint64 array"
        )
    if any(len(key) != MASK_KEY_BYTES or sign not in _COMBINE for key, sign in keys):
        raise InvalidArgumentError(
            "MASK_KEY", f"a mask has a key of {MASK_KEY_BYTES} bytes and a sign of +1 or -1"
        )
    if first_word < 0 or first_word % _BLOCK_WORDS or threads < 1:
        raise InvalidArgumentError(
            "MASK_RANGE", "masks start at an even word, not below zero, with at least one thread"
        )
    if (first_word + accumulator.size) * WORD_BYTES > MAX_KEYSTREAM_BYTES:
        raise InvalidArgumentError(
            "MASK_RANGE", f"a key masks at most {MAX_KEYSTREAM_BYTES} bytes; split the vector"
        )
