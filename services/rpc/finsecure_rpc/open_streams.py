"""Long-lived streams: few for each caller, ended when its certificate expires or is revoked."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from finsecure_crypto.certificates import Certified, SpiffeId
from finsecure_crypto.errors import ResourceExhaustedError

from finsecure_rpc.bearer import Bearer


@dataclass(eq=False)
class _OpenStream:
    caller: Certified | Bearer
    scope: asyncio.Timeout
    failure: Exception | None = None


class OpenStreams:
    """Checks the callers of all open streams again and again.

    Args:
        recheck: raises when a caller may not go on.
        interval_s: seconds between two sweeps; one sweep serves all streams.
        most: open streams of one identity.
    """

    def __init__(
        self, recheck: Callable[[Certified | Bearer], None], interval_s: float, most: int
    ) -> None:
        self._recheck = recheck
        self._interval_s = interval_s
        self._most = most
        self._open: set[_OpenStream] = set()
        self._count: Counter[SpiffeId] = Counter()
        self._sweeper: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watched(self, caller: Certified | Bearer | None) -> AsyncIterator[None]:
        """Run a stream's handler; it is interrupted when its caller may not go on.

        Raises:
            ResourceExhaustedError: TOO_MANY_STREAMS.
            Exception: what `recheck` raised for the caller.
        """
        if caller is None:  # methods for anyone have short deadlines and nobody to check
            yield
            return
        if self._count[caller.spiffe_id] >= self._most:
            raise ResourceExhaustedError(
                "TOO_MANY_STREAMS",
                f"{caller.spiffe_id} has {self._most} streams open: end some, then try again.",
            )
        self._count[caller.spiffe_id] += 1
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
            self._count[caller.spiffe_id] -= 1
            if not self._count[caller.spiffe_id]:
                del self._count[caller.spiffe_id]

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
