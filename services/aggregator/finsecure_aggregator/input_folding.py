"""Adding the inputs of a round to its sum in the background, those that wait together at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from finsecure_aggregator.batches import Batches


class InputFolding:
    """Has accepted inputs added to the sum.

    One thread sums; others that waited for it would be missed elsewhere.

    Args:
        add: adds the inputs of some clients.
        most: clients at once.
    """

    def __init__(self, add: Callable[[Sequence[str]], Awaitable[None]], most: int) -> None:
        self._add = add
        self._batches: Batches[str, None] = Batches(self._fold, most)
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, client: str) -> None:
        """Have a client's input added."""
        self._tasks.add(asyncio.create_task(self._batches.put(client)))

    async def finish(self) -> None:
        """Wait until all are added; raises what adding one raised."""
        await asyncio.gather(*self._tasks)

    async def settle(self) -> None:
        """Wait until nothing is being added any more, whatever came of it."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _fold(self, clients: Sequence[str]) -> Sequence[None]:
        await self._add(clients)
        return [None] * len(clients)
