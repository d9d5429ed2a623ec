"""The sum of a round's masked inputs, in memory of the size of one vector.

The sum is a fold of files that are on the disk for as long as the round runs: a slice whose
worker is lost is opened anew and folded again, so a loss costs time and never the round.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from finsecure_crypto.errors import FinSecureError, UnavailableError
from finsecure_crypto.masking import WORD_BYTES
from finsecure_rpc.logs import get_logger

from finsecure_aggregator.round_protocol import WORKERS_LOST
from finsecure_aggregator.slices import (
    Masks,
    Slice,
    SliceLostError,
    Slices,
    Span,
    Words,
    cut,
    truncated,
)

LEAST_WORDS = 1 << 14  # 128 KiB: less is not worth a thread, let alone a process
_MOST_REBUILDS = 3

_log = get_logger(__name__)


class Accumulator:
    """Adds masked inputs from their files and unmasks the sum once.

    Thread-safe; every method blocks and belongs off the event loop. Nothing is opened before the
    first input.

    Args:
        words: length of the vector in 64-bit words.
        slices: where the slices live.
        least_words: the vector is cut into fewer slices where they would be shorter.
    """

    def __init__(self, words: int, slices: Slices, least_words: int = LEAST_WORDS) -> None:
        self._words = words
        self._inputs: list[Path] = []
        self._parts = [_Part(slices, span) for span in cut(words, slices.workers, least_words)]
        self._threads = ThreadPoolExecutor(len(self._parts), thread_name_prefix="slice")

    def add_input(self, *paths: Path) -> None:
        """Add the vectors in files of little-endian 64-bit words, which stay as they are.

        Raises:
            IntegrityError: BLOB_TRUNCATED, if a file has another size than the vector; nothing
                has been added then.
            UnavailableError: WORKERS_LOST; the inputs are added by the next call.
        """
        for path in paths:
            if not path.is_file() or path.stat().st_size != WORD_BYTES * self._words:
                raise truncated(path)
        self._inputs.extend(paths)
        self._each(lambda part: part.fold(self._inputs))

    def unmask(self, masks: Masks) -> Words:
        """Add the masks; shape (words,), the sum of the plain inputs mod 2^64.

        Raises:
            IntegrityError: BLOB_TRUNCATED, if an input is needed again and is gone.
            UnavailableError: WORKERS_LOST.
        """
        total = np.empty(self._words, np.uint64)
        self._each(lambda part: part.unmask(self._inputs, masks, total))
        return total

    def close(self) -> None:
        """Let go of all workers; what still runs on them fails with UnavailableError."""
        for part in self._parts:
            part.close()

    def _each(self, work: Callable[["_Part"], None]) -> None:
        if len(self._parts) == 1:
            work(self._parts[0])
        else:
            for _ in self._threads.map(work, self._parts):
                pass


class _Part:
    """One slice, through the losses of its workers."""

    def __init__(self, slices: Slices, span: Span) -> None:
        self._slices = slices
        self._span = span
        self._slice: Slice | None = None
        self._folded = 0
        self._lock = threading.Lock()
        self._closed = False

    def fold(self, inputs: Sequence[Path]) -> None:
        """Add the inputs that the slice does not have yet."""
        with self._lock:
            if self._folded < len(inputs):
                self._through_losses(lambda: self._open_and_fold(inputs))

    def unmask(self, inputs: Sequence[Path], masks: Masks, total: Words) -> None:
        """Write the unmasked slice to its place in the total."""
        with self._lock:
            self._through_losses(
                lambda: self._open_and_fold(inputs).unmask(masks, self._span.of(total))
            )
            self._drop()

    def close(self) -> None:
        """Let go of the worker, even while another thread waits for it."""
        self._closed = True
        if (open_ := self._slice) is not None:
            open_.close()

    def _open_and_fold(self, inputs: Sequence[Path]) -> Slice:
        if self._slice is None:
            self._slice = self._slices.open(self._span)
            if self._closed:  # `close` may have looked before the slice was there
                raise SliceLostError("closed")
        while self._folded < len(inputs):
            self._slice.add_input(inputs[self._folded])
            self._folded += 1
        return self._slice

    def _through_losses(self, work: Callable[[], object]) -> None:
        for rebuild in range(_MOST_REBUILDS + 1):
            if self._closed:
                break
            try:
                work()
            except SliceLostError as loss:
                self._drop()
                if not self._closed:
                    _log.warning(
                        "slice_lost", first_word=self._span.first_word, again=rebuild, why=str(loss)
                    )
            except BaseException:
                self._drop()  # it may hold half an input
                raise
            else:
                return
        raise _stopped() if self._closed else _lost()

    def _drop(self) -> None:
        if self._slice is not None:
            self._slice.close()
        self._slice, self._folded = None, 0


def _lost() -> FinSecureError:
    return UnavailableError(
        WORKERS_LOST,
        f"a worker of the aggregator's arithmetic was lost {_MOST_REBUILDS + 1} times in a row; "
        "see the aggregator's log, its memory and its cluster",
    )


def _stopped() -> FinSecureError:
    return UnavailableError(
        "ROUND_STOPPED", "the round was put down while it was summed; it goes on from its log"
    )
