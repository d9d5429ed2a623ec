"""The sum of a round's masked inputs, in memory of the size of one vector.

Masks are AES-CTR streams, so any slice of the vector is summed and unmasked on its own; a slice
is all that a worker in another process or on another machine would have to hold.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.secret import SecretBytes
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Masks = Sequence[tuple[SecretBytes, int]]

_TILE_WORDS = 1 << 17  # 1 MiB: one read, and what of an input is in memory at a time


class Slice(Protocol):
    """Sums one slice of the vector."""

    def add_input(self, words: Words, at: int) -> None:
        """Add words (mod 2^64) that start `at` words into the slice."""
        ...

    def unmask(self, masks: Masks) -> Words:
        """Remove the masks and give the slice's sum; the slice is spent."""
        ...


class LocalSlice:
    """A slice in this process' memory."""

    def __init__(self, first_word: int, words: int) -> None:
        self._first_word = first_word
        self._sum: Words = np.zeros(words, np.uint64)

    def add_input(self, words: Words, at: int) -> None:
        """Add words (mod 2^64) that start `at` words into the slice."""
        view = self._sum[at : at + len(words)]
        np.add(view, words, out=view)

    def unmask(self, masks: Masks) -> Words:
        """Remove the masks in place and give the slice's sum."""
        apply_masks(self._sum, masks, first_word=self._first_word)
        return self._sum


class Accumulator:
    """Adds masked inputs from their files and unmasks the sum once.

    Thread-safe; every method blocks and belongs off the event loop.

    Args:
        words: length of the vector in 64-bit words.
        threads: slices that are unmasked at a time, and into which the vector is cut.
    """

    def __init__(self, words: int, threads: int = 1) -> None:
        # Slices start at even words: a cipher block is two words.
        length = max(2, -(-words // threads) + (-(-words // threads)) % 2)
        self._starts = range(0, words, length)
        self._slices: list[Slice] = [
            LocalSlice(start, min(length, words - start)) for start in self._starts
        ]
        self._words = words
        self._length = length
        self._lock = threading.Lock()

    def add_input(self, path: Path) -> None:
        """Add the vector in a file of little-endian 64-bit words.

        Raises:
            IntegrityError: BLOB_TRUNCATED, if the file has another size than the vector; nothing
                has been added then.
        """
        if path.stat().st_size != 8 * self._words:
            raise IntegrityError(
                "BLOB_TRUNCATED",
                f"{path.name} does not have the size of the round's vector; check the disk",
            )
        with self._lock, path.open("rb") as file:
            for start, piece in zip(self._starts, self._slices, strict=True):
                length = min(self._length, self._words - start)
                for at in range(0, length, _TILE_WORDS):
                    tile = np.fromfile(file, "<u8", min(_TILE_WORDS, length - at))
                    piece.add_input(tile, at)

    def unmask(self, masks: Masks) -> Words:
        """Remove the masks; shape (words,), the sum of the plain inputs mod 2^64."""
        with self._lock, ThreadPoolExecutor(len(self._slices)) as pool:
            return np.concatenate(list(pool.map(lambda piece: piece.unmask(masks), self._slices)))
