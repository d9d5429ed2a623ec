"""What a stream of instructions can cost a client."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from finsecure_client.instructions import Instruction, Malformed
from finsecure_client.participation import Participation
from finsecure_crypto.errors import ProtocolViolationError

from tests.support.client import TASK

BENT = Malformed(ProtocolViolationError("MESSAGE_INVALID", "bent"))


class Flood:
    """Sends instructions for many rounds, and never answers a call."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.waiting: list[str] = []
        self.sent = asyncio.Event()

    async def watch(self, tasks: Sequence[str]) -> AsyncIterator[Instruction]:
        for number in range(self.rounds):
            yield Instruction(f"{TASK}/rounds/{number}-1", datetime.now(UTC), BENT)
            await asyncio.sleep(0)
        self.sent.set()
        await asyncio.Event().wait()

    async def decline_round(self, name: str, reason: str) -> None:
        self.waiting.append(name)
        await asyncio.Event().wait()


async def test_refusals_that_nobody_hears_are_bounded() -> None:
    flood = Flood(1000)

    async def wanted() -> list[str]:
        return [TASK]

    taking_part = Participation(flood, None)  # type: ignore[arg-type]  # no round gets so far
    running = asyncio.create_task(taking_part.run(wanted))
    await asyncio.wait_for(flood.sent.wait(), 30)
    await asyncio.sleep(0.1)
    assert len(flood.waiting) == 100
    assert not taking_part._rounds
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
