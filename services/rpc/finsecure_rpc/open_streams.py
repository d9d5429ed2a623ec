"""Long-lived streams end when their caller's certificate expires or is revoked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from finsecure_crypto.certificates import Certified


@dataclass(eq=False)
class _OpenStream:
    caller: Certified
    scope: asyncio.Timeout
    failure: Exception | None = None


class OpenStreams:
    """Checks the callers of all open streams again and again.

    Args:
        recheck: raises when a caller may not go on.
        interval_s: seconds between two sweeps; one sweep serves all streams.
    """

    def __init__(self, recheck: Callable[[Certified], None], interval_s: float) -> None:
        self._recheck = recheck
        self._interval_s = interval_s
        self._open: set[_OpenStream] = set()
        self._sweeper: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watched(self, caller: Certified | None) -> AsyncIterator[None]:
        """Run a stream's handler; it is interrupted when its caller may not go on.

        Raises:
            Exception: what `recheck` raised for the caller.
        """
        if caller is None:  # methods for anyone have short deadlines and nobody to check
            yield
            return
        stream = _OpenStream(caller, asyncio.timeout(None))
        try:
            async with stream.scope:
                self._open.add(stream)
                if self._sweeper is None or self._sweeper.done():
                    self._sweeper = asyncio.create_task(self._sweep())
                yield
        except TimeoutError:
            if stream.failure is None:
                raise
            raise stream.failure from None
        finally:
            self._open.discard(stream)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while self._open:
            await asyncio.sleep(self._interval_s)
            for stream in tuple(self._open):
                if stream.failure is not None:
                    continue
                try:
                    self._recheck(stream.caller)
                except Exception as error:  # who cannot be checked is out
                    stream.failure = error
                    stream.scope.reschedule(loop.time())
