"""Ciphertexts as the aggregator handles them: by name, and in worker processes that may die.

Nothing here parses a ciphertext. A worker that dies, or says nothing for too long, is replaced;
what its loss means is for the caller to say.
"""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from finsecure_crypto import errors
from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import FinSecureError, InternalError, UnavailableError
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_rpc.logs import get_logger
from safetensors.numpy import load

from finsecure_aggregator import cipher_worker, frames
from finsecure_aggregator.round_protocol import WORKERS_LOST, Sums

T = TypeVar("T")
_MOST_REBUILDS = 3
_SLOWEST_BYTES_S = 2e6  # proofs are verified at 6 MB/s and more on a core of its own

_ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, FinSecureError)
}

_log = get_logger(__name__)


class WorkerLostError(Exception):
    """A worker has died, or does not answer."""


class WorkerSilentError(WorkerLostError):
    """A worker has not answered in time; it may have had too much to do."""


@dataclass(frozen=True)
class KeyFile:
    """An encryption key on this machine's disk.

    Attributes:
        mode: the scheme.
        path: of the serialised public key.
    """

    mode: Mode
    path: Path


@dataclass(frozen=True)
class InputShape:
    """What an input looks like.

    Attributes:
        ciphertext_bytes: of each ciphertext.
        input_bytes: of all of them together, and the proof behind them if any.
        error_bound: of a sum, as a fraction of a section's bound; 0 in an exact scheme.
    """

    ciphertext_bytes: int
    input_bytes: int
    error_bound: float

    @property
    def proof_bytes(self) -> int:
        """Bytes of the proof, which are fewer than those of a ciphertext."""
        return self.input_bytes % self.ciphertext_bytes


class CipherWorker:
    """One worker process. Used by one thread at a time, but for `close`.

    Args:
        key: that it works with.
        silence_s: a worker that says nothing for so long is taken for dead; longer, by their bytes,
            where it reads inputs.
        module: what it runs.
    """

    def __init__(self, key: KeyFile, silence_s: float, module: str) -> None:
        self._busy = threading.Lock()
        self._connection, theirs = socket.socketpair()
        self._silence_s = silence_s
        with theirs:
            try:
                self._process = frames.start_worker(module, [key.mode.value, str(key.path)], theirs)
            except OSError as error:
                self._connection.close()
                raise WorkerLostError(f"no process could be started: {error}") from error

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, do: str, **request: Any) -> bytes:
        """Let the worker do something.

        Raises:
            WorkerSilentError: it takes too long over it.
            WorkerLostError: it has died over it.
            FinSecureError: what the scheme says.
        """
        content = json.dumps({"do": do, **request}).encode()
        reading_s = request.get("input_bytes", 0) / _SLOWEST_BYTES_S
        try:
            with self._busy:
                self._connection.settimeout(self._silence_s + reading_s)
                frames.send(self._connection, cipher_worker.REQUEST, content)
                operation, answer = frames.receive(self._connection)
        except TimeoutError as error:
            raise WorkerSilentError(f"process {self.pid}: {error}") from error
        except (OSError, EOFError) as error:
            raise WorkerLostError(f"process {self.pid}: {error or type(error).__name__}") from error
        if operation == cipher_worker.REFUSAL:
            kind, code, message, culprit = json.loads(answer)
            raise _ERRORS.get(kind, InternalError)(code, message, culprit=culprit)
        return answer

    def close(self) -> None:
        """Kill the process; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        with self._busy:
            self._connection.close()


class CipherWorkers:
    """Starts workers, and keeps those that may be asked by anybody.

    Args:
        most: workers that are asked at a time, over all rounds.
        silence_s: a worker that says nothing for so long is taken for dead.
        module: what the workers run.
    """

    def __init__(self, most: int, silence_s: float, module: str = cipher_worker.__name__) -> None:
        self._silence_s = silence_s
        self._module = module
        self._idle: dict[KeyFile, list[CipherWorker]] = {}
        self._turns = asyncio.Semaphore(most)

    def start(self, key: KeyFile) -> CipherWorker:
        """Start a worker of the caller's own; WorkerLostError where that fails."""
        return CipherWorker(key, self._silence_s, self._module)

    async def ask(self, key: KeyFile, do: str, **request: Any) -> bytes:
        """Let some worker do something; raises as `CipherWorker.ask`."""
        async with self._turn(key) as worker:
            return await asyncio.to_thread(partial(worker.ask, do, **request))

    @asynccontextmanager
    async def _turn(self, key: KeyFile) -> AsyncIterator[CipherWorker]:
        async with self._turns:
            idle = self._idle.setdefault(key, [])
            worker = idle.pop() if idle else await asyncio.to_thread(self.start, key)
            try:
                yield worker
            except FinSecureError:
                idle.append(worker)
                raise
            except BaseException:  # dead, or its answer is still to come
                worker.close()
                raise
            idle.append(worker)

    async def shape(self, key: KeyFile, layout: VectorLayout) -> InputShape:
        """Say what an input of a layout looks like.

        Raises:
            InvalidArgumentError: the layout does not fit to the key.
            FinSecureError: the key is damaged, or its scheme's library is missing.
            UnavailableError: WORKERS_LOST.
        """
        document = cipher_worker.layout_document(layout)
        try:
            return InputShape(**json.loads(await self.ask(key, "shape", layout=document)))
        except WorkerLostError as loss:
            raise lost() from loss

    def close(self) -> None:
        """Kill all workers that nobody has at the moment."""
        for workers in self._idle.values():
            for worker in workers:
                worker.close()
        self._idle.clear()


class CipherSum:
    """The sum of a round's ciphertexts, in a worker of its own and in memory of one input.

    The files stay as long as the round runs: a worker that is lost is replaced and adds them
    anew. Thread-safe; every method but `close` blocks for long.

    Args:
        workers: where workers come from.
        key: of the ciphertexts.
        shape: of an input.
    """

    def __init__(self, workers: CipherWorkers, key: KeyFile, shape: InputShape) -> None:
        self._workers = workers
        self._key = key
        self._shape = shape
        self._inputs: list[Path] = []
        self._added = 0
        self._worker: CipherWorker | None = None
        self._lock = threading.Lock()
        self._closed = False

    def add(self, paths: Sequence[Path]) -> None:
        """Add inputs, all of which have been checked.

        Raises:
            IntegrityError: BLOB_TRUNCATED, where the disk has lost something.
            UnavailableError: WORKERS_LOST or ROUND_STOPPED.
        """
        with self._lock:
            self._inputs += paths
            self._through_losses(self._catch_up)

    def write(self, path: Path) -> bytes:
        """Write the sum into a file and return its SHA-256; raises as `add`."""

        def total() -> bytes:
            return self._catch_up().ask("total", path=str(path))

        with self._lock:
            return self._through_losses(total)

    def close(self) -> None:
        """Let go of the worker, even while another thread waits for it."""
        self._closed = True
        if (worker := self._worker) is not None:
            worker.close()

    def _catch_up(self) -> CipherWorker:
        if self._worker is None:
            self._added = 0
            self._worker = self._workers.start(self._key)
            if self._closed:  # `close` may have looked before the worker was there
                self._worker.close()
                raise WorkerLostError("closed")
        while self._added < len(self._inputs):
            path = self._inputs[self._added]
            self._worker.ask(
                "add",
                path=str(path),
                ciphertext_bytes=self._shape.ciphertext_bytes,
                input_bytes=self._shape.input_bytes,
            )
            self._added += 1
        return self._worker

    def _through_losses(self, work: Callable[[], T]) -> T:
        for rebuild in range(_MOST_REBUILDS + 1):
            if self._closed:
                raise UnavailableError(
                    "ROUND_STOPPED",
                    "the round was put down while it was summed; it goes on from its log",
                )
            try:
                return work()
            except WorkerLostError as loss:
                self._drop()
                _log.warning("cipher_worker_lost", again=rebuild, why=str(loss))
            except BaseException:
                self._drop()  # it may hold half an input
                raise
        raise lost()

    def _drop(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None


def decoded(answer: bytes) -> Sums:
    """Read what `combine` has answered."""
    return load(answer)


def lost() -> UnavailableError:
    """Make the error for workers that die over the aggregator's own files."""
    return UnavailableError(
        WORKERS_LOST,
        "a worker of the aggregator was lost again and again while it worked on ciphertexts; see "
        "the aggregator's log and its memory",
    )
