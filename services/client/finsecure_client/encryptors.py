"""Paillier encryption on all cores, in processes: its products do not release Python's lock.

Needs the extra `finsecure[paillier]`, so it is imported only by whoever encrypts in that mode.
"""

import contextlib
import os
import queue
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy as np
from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import UnavailableError
from finsecure_crypto.homomorphic.paillier import PaillierKey
from finsecure_crypto.homomorphic.paillier.blinding import window_for
from finsecure_crypto.homomorphic.paillier.key import Encrypted
from numpy.typing import NDArray

from finsecure_client import encryption_worker

_PIECE = 128  # ciphertexts that a worker makes at once: some tens of milliseconds
_WORTH = 1024  # ciphertexts below which starting workers would cost more than they save


def encrypted(
    key: PaillierKey,
    layout: VectorLayout,
    values: Mapping[str, NDArray[Any]],
    rng: np.random.Generator,
    binding: bytes,
    processes: int | None = None,
) -> Iterator[bytes]:
    """Makes one client's input, in worker processes where there are enough values.

    Args:
        key: of the trustees.
        layout: how the values are encoded.
        values: as in `VectorLayout.encode`.
        rng: rounding noise, as in `VectorLayout.encode`.
        binding: of the proof, as in `PaillierKey.encrypt_input`.
        processes: by default as many as there are cores.

    Yields:
        Runs of whole ciphertexts, in order, and then the proof.

    Raises:
        InvalidArgumentError: as `VectorLayout.encode`; the caller's.
        UnavailableError: `ENCRYPTION_WORKER_LOST`; encrypt again.
    """
    processes = processes or os.cpu_count() or 1
    count = key.shape(layout).count
    if processes == 1 or count < _WORTH:
        yield from key.encrypt_input(layout, values, rng, binding)
        return
    words = layout.encode(values, rng)
    with Encryptors(key, processes, window_for(count // processes)) as workers:
        yield from key.proven(words, workers.encrypt_words(words), binding)


class Encryptors:
    """Worker processes that encrypt under one key; a context manager that ends them.

    Args:
        key: of the trustees.
        processes: how many.
        window: of each worker's table, see `blinding.Blinder`.
        silence_s: a worker that says nothing for so long is taken for dead.
    """

    def __init__(
        self, key: PaillierKey, processes: int, window: int, silence_s: float = 120.0
    ) -> None:
        self._key = key
        self._workers: list[_Worker] = []
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        try:
            for _ in range(processes):
                worker = _Worker(key, window, silence_s)
                self._workers.append(worker)
                self._idle.put(worker)
        except BaseException:
            self.close()
            raise

    def encrypt_words(self, words: NDArray[np.uint64]) -> Iterator[Encrypted]:
        """Encrypts words of an encoded vector.

        Yields:
            Runs of ciphertexts, in order, with their exponents.

        Raises:
            UnavailableError: `ENCRYPTION_WORKER_LOST`; these workers are of no more use.
        """
        size = _PIECE * self._key.modulus.words
        data = words.astype("<u8", copy=False)
        pieces = (data[start : start + size].tobytes() for start in range(0, data.size, size))
        with ThreadPoolExecutor(len(self._workers)) as threads:
            yield from threads.map(self._encrypt, pieces)

    def _encrypt(self, piece: bytes) -> Encrypted:
        worker = self._idle.get()
        try:
            return worker.encrypt(piece)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """Kill the workers; they have nothing to lose."""
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Worker:
    """One process, which encrypts one piece after another."""

    def __init__(self, key: PaillierKey, window: int, silence_s: float) -> None:
        connection, theirs = socket.socketpair()
        connection.settimeout(silence_s)
        self._key = key
        self._stream = connection.makefile("rwb")
        connection.close()  # the stream keeps it open
        with theirs:
            try:
                # -P: the folder that the client was started in holds no code of ours.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", encryption_worker.__name__, str(window)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # a Ctrl-C in the terminal is for the client alone
                )
            except OSError as error:
                self._stream.close()
                raise _lost(f"no process could be started: {error}") from error
        try:
            encryption_worker.send(self._stream, key.serialise())
        except OSError as error:
            self.close()
            raise _lost(str(error)) from error

    def encrypt(self, piece: bytes) -> Encrypted:
        try:
            encryption_worker.send(self._stream, piece)
            return encryption_worker.read(self._key, encryption_worker.receive(self._stream))
        except (OSError, EOFError, ValueError) as error:  # a time-out is an OSError
            raise _lost(f"process {self._process.pid}: {error or type(error).__name__}") from error

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):  # what was not sent has nobody to go to
            self._stream.close()


def _lost(why: str) -> UnavailableError:
    return UnavailableError(
        "ENCRYPTION_WORKER_LOST", f"a process that encrypts was lost ({why}); encrypt again"
    )
