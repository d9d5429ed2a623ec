"""Slices in processes of their own on this machine, which may die without the round.

Each slice of each round has a process, which can be killed at any time.
"""

import os
import socket
import threading
from pathlib import Path

from finsecure_aggregator import frames, slice_worker
from finsecure_aggregator.slices import Masks, SliceLostError, Span, Words, packed, truncated


class ProcessSlice:
    """A slice in another process.

    Args:
        span: its words.
        silence_s: a worker that says nothing for so long is taken for dead.
    """

    def __init__(self, span: Span, silence_s: float) -> None:
        self._span = span
        self._busy = threading.Lock()
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(silence_s)
        with theirs:
            try:
                self._process = frames.start_worker(
                    slice_worker.__name__, [str(span.first_word), str(span.words)], theirs
                )
            except OSError:
                self._connection.close()
                raise

    @property
    def pid(self) -> int:
        """Of the worker."""
        return self._process.pid

    def add_input(self, path: Path) -> None:
        """Let the worker add its words of a file.

        Raises:
            SliceLostError: the slice has to be summed again from the inputs.
            IntegrityError: BLOB_TRUNCATED; the slice is of no more use.
        """
        if self._ask(slice_worker.ADD, os.fsencode(path.absolute())) == slice_worker.TRUNCATED:
            raise truncated(path)

    def unmask(self, masks: Masks, out: Words) -> None:
        """Let the worker add the masks, and take the sum from it.

        Raises:
            SliceLostError: the slice has to be summed again from the inputs.
        """
        for message in packed(masks, self._span):
            self._ask(slice_worker.MASK, message)
        self._ask(slice_worker.TAKE, answer_into=slice_worker.as_bytes(out))

    def _ask(
        self, operation: bytes, content: bytes = b"", answer_into: memoryview | None = None
    ) -> bytes:
        status = bytearray(1)
        try:
            with self._busy:
                frames.send(self._connection, operation, content)
                frames.receive_into(self._connection, memoryview(status))
                if answer_into is not None:
                    frames.receive_into(self._connection, answer_into)
        except (OSError, EOFError) as error:  # a time-out is an OSError
            raise SliceLostError(f"process {self.pid}: {error or type(error).__name__}") from error
        return bytes(status)

    def close(self) -> None:
        """Kill the worker; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        with self._busy:  # whoever waited for the worker has its answer: the end of the connection
            self._connection.close()


class ProcessSlices:
    """Opens slices in processes of their own.

    Args:
        workers: processes for each round.
        silence_s: a worker that says nothing for so long is taken for dead.
    """

    def __init__(self, workers: int, silence_s: float) -> None:
        self.workers = workers
        self._silence_s = silence_s

    def open(self, span: Span) -> ProcessSlice:
        """Start a process that holds a slice.

        Raises:
            SliceLostError: the system starts no more processes.
        """
        try:
            return ProcessSlice(span, self._silence_s)
        except OSError as error:
            raise SliceLostError(f"no process could be started: {error}") from error

    def close(self) -> None:
        """Nothing to let go of: processes belong to their slices."""
