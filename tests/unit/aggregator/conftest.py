"""Small plans, and a clock whose hands the test turns."""

import asyncio
from dataclasses import replace

import pytest
from finsecure_aggregator.plan import Plan
from finsecure_aggregator.wire.tasks import plan_of, spec_bytes

from tests.support.federation import task_name, task_spec


class FakeClock:
    """Time stands still until `advance`."""

    def __init__(self, now_ns: int = 1_000 * 10**9) -> None:
        self._now_ns = now_ns
        self._tick = asyncio.Event()

    def now_ns(self) -> int:
        return self._now_ns

    async def wait(self, event: asyncio.Event, until_ns: int | None) -> None:
        while not event.is_set() and (until_ns is None or self._now_ns < until_ns):
            waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._tick.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def advance(self, seconds: float) -> None:
        """Turn the hands and let everybody who waits look."""
        self._now_ns += round(seconds * 10**9)
        tick, self._tick = self._tick, asyncio.Event()
        tick.set()
        await settle()


async def settle() -> None:
    """Let all tasks run as far as they get."""
    for _ in range(20):
        await asyncio.sleep(0.002)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def make_plan(**keywords: object) -> Plan:
    spec = task_spec(**keywords)  # type: ignore[arg-type]
    return plan_of(task_name("credit"), spec_bytes(spec))


@pytest.fixture
def plan() -> Plan:
    return make_plan()


@pytest.fixture
def change(plan):
    """Give the plan with some fields, or some of its terms' fields, replaced."""

    def changed(**fields):
        own = {name: value for name, value in fields.items() if hasattr(plan, name)}
        terms = {name: value for name, value in fields.items() if name not in own}
        return replace(plan, terms=replace(plan.terms, **terms), **own)

    return changed
