"""Manifests in memory: bounded in number and bytes, first come, first served."""

import asyncio
from contextlib import AsyncExitStack

from finsecure_keyservice.trustee.room import ManifestRoom


async def test_who_finds_no_room_waits_in_order_and_what_is_left_is_free_again() -> None:
    room = ManifestRoom()
    order: list[str] = []

    async def come(name: str, contributions: int, leave: asyncio.Event) -> None:
        async with room.taken(contributions):
            order.append(name)
            await leave.wait()

    leave = [asyncio.Event() for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        group.create_task(come("large", 100_000, leave[0]))
        await _settled()
        group.create_task(come("next", 100_000, leave[1]))
        await _settled()
        group.create_task(come("small", 1, leave[2]))
        impatient = group.create_task(come("impatient", 1, leave[2]))
        await _settled()
        assert order == ["large"]
        impatient.cancel()
        leave[0].set()
        await _settled()
        assert order == ["large", "next", "small"]  # the second has left room for a small one
        leave[1].set()
        leave[2].set()
    async with asyncio.timeout(60), room.taken(100_000):
        pass


async def test_many_small_manifests_are_counted_too() -> None:
    room = ManifestRoom()
    async with AsyncExitStack() as stack:
        for _ in range(64):
            await stack.enter_async_context(room.taken(1))
        one_more = asyncio.create_task(stack.enter_async_context(room.taken(1)))
        await _settled()
        assert not one_more.done()
        one_more.cancel()


async def _settled() -> None:
    """Let every task run as far as it gets; nothing here waits for the outside."""
    for _ in range(20):
        await asyncio.sleep(0)
