"""Worker processes as the service sees them: awaited, bounded in time, and killed when left."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from finsecure_crypto import errors
from finsecure_crypto.errors import FinSecureError, UnavailableError
from finsecure_crypto.secret import SecretBytes

from finsecure_keyservice.trustee import worker
from finsecure_keyservice.trustee.records import HeldKey

_PIECE_BYTES = 1 << 20
_STEP_TIMEOUT_S = 120.0
_REASONS = {
    kind.__name__: kind
    for kind in (
        errors.IntegrityError,
        errors.InvalidArgumentError,
        errors.ProtocolViolationError,
        errors.ConfigurationError,
        errors.StateError,
    )
}


class Worker:
    """One worker process that has read one key.

    Args:
        process: with pipes to its standard input and output.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(
        self, operation: bytes, content: bytes = b"", timeout_s: float = _STEP_TIMEOUT_S
    ) -> bytes:
        """Let the worker do something.

        Raises:
            FinSecureError: what the worker says.
            UnavailableError: WORKER_FAILED when it dies or is silent for too long.
        """
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None and sink is not None  # noqa: S101, PT018 - opened so
        try:
            async with asyncio.timeout(timeout_s):
                sink.write(worker.HEADER.pack(operation, len(content)))
                sink.write(content)
                await sink.drain()
                status, size = worker.HEADER.unpack(await source.readexactly(worker.HEADER.size))
                answer = await source.readexactly(size)
        except (OSError, EOFError, TimeoutError) as error:
            raise UnavailableError(
                "WORKER_FAILED",
                "the process that computes on ciphertexts died or was too slow: try again, and if "
                "it happens again, look at the trustee's log and memory",
            ) from error
        if status == worker.REFUSED:
            raise _refusal(answer)
        return answer

    async def give(self, content: bytes) -> None:
        """Send bytes of a contribution, or of the total that is to be opened."""
        for start in range(0, len(content), _PIECE_BYTES):
            await self.ask(worker.PIECE, content[start : start + _PIECE_BYTES])

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def kill(self) -> None:
        """End the process; it has nothing to lose."""
        with suppress(ProcessLookupError):
            self._process.kill()


def _refusal(answer: bytes) -> FinSecureError:
    kind, code, message = answer.decode(errors="replace").split("\0", 2)
    return _REASONS.get(kind, errors.InternalError)(code, message)


@asynccontextmanager
async def started(held: HeldKey) -> AsyncIterator[Worker]:
    """A worker with a key; it is gone at the end, however that comes."""
    # -P: the folder that the trustee was started in holds no code of ours.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        worker.__name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C in the terminal is for the trustee alone
    )
    working = Worker(process)
    try:
        mode = held.description.mode.value.encode()
        await working.ask(worker.KEY, mode + b"\0" + held.public_key)
        yield working
    finally:
        working.kill()
        await process.wait()


async def partial_of(
    held: HeldKey, share: SecretBytes, total: bytes, context: bytes, timeout_s: float
) -> bytes:
    """Make a partial decryption in a process that has seen nothing but the verified total.

    Raises:
        FinSecureError: what the scheme says.
        UnavailableError: WORKER_FAILED.
    """
    async with started(held) as working:
        await working.ask(worker.SHARE, share.expose())
        await working.give(total)
        return await working.ask(worker.PARTIAL, context, timeout_s)
