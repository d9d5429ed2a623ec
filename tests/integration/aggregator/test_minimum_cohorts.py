"""The federation's minimum cohort over the wire: tasks below it, and rounds of those that exist."""

import asyncio

import pytest
from finsecure.aggregation.v1 import tasks_pb2
from finsecure_crypto.errors import PolicyError

from tests.support.federation import SUBMIT, Federation, leave_before, task_spec


async def _detail(federation: Federation, words: str) -> None:
    """Wait until the task's state says something: another process looks at a third one."""
    async with asyncio.timeout(60):
        while words not in (await federation.task("credit")).state_detail:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_raised_minimum_stops_a_task_that_exists_and_a_lowered_one_lets_it_go_on(tmp_path):
    async with Federation(tmp_path, banks=4, settle_s=0.5) as federation:
        federation.minima.demand(3)
        with pytest.raises(PolicyError, match="COHORT_BELOW_FEDERATION_MINIMUM"):
            await federation.create_task("small", task_spec(minimum=2))
        spec = task_spec(minimum=3, maximum=4, deadlines={SUBMIT: 5})
        await federation.create_task("credit", spec)
        federation.minima.demand(9)
        await _detail(federation, "COHORT_BELOW_FEDERATION_MINIMUM")
        federation.start_clients("credit", hooks={"bank-0": leave_before(SUBMIT)})
        await _available(federation, 4)
        assert await federation.history("credit") == []
        # Four are enough to begin, and the round needs all of them although the task says three.
        federation.minima.demand(4)
        await _detail(federation, "waits for clients: 3 of 4 by the federation's minimum cohort")
        (first,) = await federation.history("credit")
        assert first.abort_reason == "TOO_FEW_INPUTS"
        federation.minima.demand(3)
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED
        *_, last = await federation.history("credit")
        assert last.state == tasks_pb2.ROUND_STATE_COMPLETED
        assert sorted(last.invited) == ["bank-1", "bank-2", "bank-3"]


async def _available(federation: Federation, count: int) -> None:
    async with asyncio.timeout(60):
        while (await federation.task("credit")).available_clients < count:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_a_task_waits_while_the_key_service_says_what_its_log_does_not_have(tmp_path):
    async with Federation(tmp_path, banks=3, settle_s=0.5) as federation:
        await federation.create_task("credit", task_spec(minimum=3, maximum=3))
        honest = federation.minima.demand(3)
        federation.minima.demand(2, published=False)
        await _detail(federation, "MINIMUM_COHORT_NOT_PUBLISHED")
        federation.start_clients("credit")
        await _available(federation, 3)
        assert await federation.history("credit") == []
        federation.minima.minima = honest
        assert (await federation.ended("credit")).state == tasks_pb2.TASK_STATE_COMPLETED
