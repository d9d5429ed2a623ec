"""Work that goes on beside a service: what fails is said at once, and stops nothing else."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from finsecure_rpc.logs import get_logger

_log = get_logger(__name__)


@asynccontextmanager
async def running(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines beside a block; afterwards they are cancelled and waited for.

    One that fails is logged when it does, and never raises here: what has to be done after the
    block is done.

    Args:
        works: what to run; each ends when it is cancelled.
    """
    tasks = [asyncio.create_task(work) for work in works]
    for task in tasks:
        task.add_done_callback(_report)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("work in the background failed", exc_info=error)
