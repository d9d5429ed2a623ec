"""Time, behind an interface, so that tests turn the hands themselves."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        ...

    async def wait(self, event: asyncio.Event, until_ns: int | None) -> None:
        """Return when the event is set or the time has come, whichever is first."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return time.time_ns()

    async def wait(self, event: asyncio.Event, until_ns: int | None) -> None:
        """Return when the event is set or the time has come, whichever is first."""
        seconds = None if until_ns is None else max(0.0, (until_ns - self.now_ns()) / 1e9)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
