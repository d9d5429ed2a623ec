"""The slices that a vector is cut into for summing: each is summed and unmasked on its own.

A mask is an AES-CTR stream, so no slice needs to know of another. Where a slice lives is what
back ends differ in: `LocalSlices` here, `process_slices`, `ray_slices`. All of them do the
arithmetic of `PartialSum`, so they agree bit for bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Protocol

import numpy as np
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.masking import MASK_KEY_BYTES, WORD_BYTES, apply_masks
from finsecure_crypto.secret import SecretBytes
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Masks = Sequence[tuple[SecretBytes, int]]

TILE_WORDS = 1 << 17  # 1 MiB: one read, and what of an input is in memory at a time
_MOST_MASKS = 1024
_KEYSTREAM_BYTES = 1 << 32
_PACKED_BYTES = 1 + MASK_KEY_BYTES
_SIGNS = {+1: b"+", -1: b"-"}


@dataclass(frozen=True)
class Span:
    """Consecutive words of the vector.

    Attributes:
        first_word: where it starts; even, since a block of the cipher has two words.
        words: how many they are.
    """

    first_word: int
    words: int

    def of(self, vector: Words) -> Words:
        """Its words in the whole vector, as a view."""
        return vector[self.first_word : self.first_word + self.words]


def cut(words: int, parts: int, least: int) -> list[Span]:
    """Cut a vector into at most `parts` spans, none but the last shorter than `least` words."""
    length = max(-(-words // parts), least, 1)
    length += length % 2
    return [Span(start, min(length, words - start)) for start in range(0, words, length)]


class SliceLostError(Exception):
    """The worker of a slice has died, or does not answer; what it had summed is gone."""


class Slice(Protocol):
    """Sums one span of the vector. Used by one thread at a time, but for `close`."""

    def add_input(self, path: Path) -> None:
        """Add the span's words (mod 2^64) of a file that holds a whole vector.

        Raises:
            SliceLostError: the slice has to be summed again from the inputs.
            IntegrityError: BLOB_TRUNCATED; the slice is of no more use.
        """
        ...

    def unmask(self, masks: Masks, out: Words) -> None:
        """Add the masks, each with its sign, and write the sum; the slice is spent.

        Args:
            masks: of the whole vector; the slice takes its own words of them.
            out: shape (words of the span,).

        Raises:
            SliceLostError: as `add_input`.
        """
        ...

    def close(self) -> None:
        """Let go of the worker, in whatever it is doing; from any thread, more than once."""
        ...


class Slices(Protocol):
    """Opens slices somewhere.

    Attributes:
        workers: how many slices a vector is cut into at most.
    """

    workers: int

    def open(self, span: Span) -> Slice:
        """Open a slice with a sum of zero.

        Raises:
            SliceLostError: its worker does not come up.
        """
        ...

    def close(self) -> None:
        """Let go of what slices have in common; all of them are closed."""
        ...


class PartialSum:
    """The sum of one span, in memory.

    Attributes:
        words: uint64, shape (words of the span,).
    """

    def __init__(self, span: Span) -> None:
        self._span = span
        self.words: Words = np.zeros(span.words, np.uint64)

    def add(self, words: Words, at: int) -> None:
        """Add words (mod 2^64) that start `at` words into the span."""
        view = self.words[at : at + len(words)]
        np.add(view, words, out=view)

    def add_file(self, path: Path) -> None:
        """Add the span's words of a file that holds a whole vector.

        Raises:
            IntegrityError: BLOB_TRUNCATED; some of the words have been added.
        """
        for at, tile in read_span(path, self._span):
            self.add(tile, at)

    def mask(self, masks: Masks) -> None:
        """Add the span's words of each mask, with its sign."""
        apply_masks(self.words, masks, first_word=self._span.first_word)


def read_span(path: Path, span: Span, tile_words: int = TILE_WORDS) -> Iterator[tuple[int, Words]]:
    """Read a span of a file of little-endian words, tile by tile, with where each tile starts.

    A tile is good until the next one is asked for.

    Raises:
        IntegrityError: BLOB_TRUNCATED.
    """
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(span.first_word * WORD_BYTES)
            # One buffer for all tiles: fresh memory for each would cost more than the addition.
            buffer = np.empty(min(tile_words, span.words), "<u8")
            for at in range(0, span.words, tile_words):
                tile = buffer[: span.words - at]
                if _read_into(file, tile) != tile.nbytes:
                    raise truncated(path)
                yield at, tile
    except OSError as error:
        raise truncated(path) from error


def _read_into(file: RawIOBase, tile: Words) -> int:
    """Read bytes until the tile is full or the file ends; one call may stop earlier."""
    view, done = tile.view(np.uint8).data, 0
    while done < len(view) and (read := file.readinto(view[done:])):
        done += read
    return done


def truncated(path: Path) -> IntegrityError:
    """Make the error for an input that is not, or not wholly, on the disk any more."""
    return IntegrityError(
        "BLOB_TRUNCATED",
        f"{path.name} does not have the size of the round's vector; check the disk",
    )


def packed(masks: Masks, span: Span) -> Iterator[bytes]:
    """Pack masks for a worker: sign and key of each, in messages of some seconds' work at most.

    A message has at most 1024 masks, 17 kB, and stands for at most about 4 GiB of keystream, so
    that a worker that is silent for long is dead and not busy.
    """
    most = max(1, min(_MOST_MASKS, _KEYSTREAM_BYTES // (span.words * WORD_BYTES)))
    for start in range(0, len(masks), most):
        group = masks[start : start + most]
        yield b"".join(_SIGNS[sign] + key.expose() for key, sign in group)


def unpacked(message: bytes) -> Masks:
    """Read what `packed` wrote."""
    signs = {ord(packed): sign for sign, packed in _SIGNS.items()}
    return [
        (SecretBytes(message[at + 1 : at + _PACKED_BYTES]), signs[message[at]])
        for at in range(0, len(message), _PACKED_BYTES)
    ]


class LocalSlice:
    """A slice in this process' memory."""

    def __init__(self, span: Span) -> None:
        self._sum = PartialSum(span)

    def add_input(self, path: Path) -> None:
        """Add the span's words (mod 2^64) of a file that holds a whole vector.

        Raises:
            IntegrityError: BLOB_TRUNCATED; the slice is of no more use.
        """
        self._sum.add_file(path)

    def unmask(self, masks: Masks, out: Words) -> None:
        """Add the masks, each with its sign, and write the sum."""
        self._sum.mask(masks)
        out[:] = self._sum.words

    def close(self) -> None:
        """Nothing to let go of."""


class LocalSlices:
    """Opens slices in this process' memory; a thread works on each.

    The cipher and the addition release the interpreter's lock.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def open(self, span: Span) -> LocalSlice:
        """Open a slice with a sum of zero."""
        return LocalSlice(span)

    def close(self) -> None:
        """Nothing to let go of."""
