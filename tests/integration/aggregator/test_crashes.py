"""kill -9 of the aggregator process at every kind of point; the round goes on, with one result."""

import asyncio

import pytest
from finsecure.aggregation.v1 import tasks_pb2

from tests.support.federation import PHASES, Federation, task_spec
from tests.support.postgresql import needs_postgresql, new_database
from tests.support.rounds import check_average_round

POINTS = [
    *(f"logged:{phase}:3" for phase in PHASES),
    *(f"closed:{phase}" for phase in PHASES),
    "unmasking",
    "model-written",
    "completed",
]


@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_aggregator_resumes_the_round_and_loses_nothing(tmp_path, point):
    # With a long grace nobody counts as gone while the process is down.
    await _killed_and_resumed(Federation(tmp_path, grace_s=60), point)


@needs_postgresql
@pytest.mark.slow
@pytest.mark.parametrize("point", [f"logged:{PHASES[2]}:3", f"closed:{PHASES[3]}", "completed"])
async def test_the_same_with_its_database_on_postgresql(tmp_path, point):
    federation = Federation(tmp_path, grace_s=60, database=new_database())
    await _killed_and_resumed(federation, point)


async def _killed_and_resumed(federation, point):
    spec = task_spec()
    async with federation:
        federation.kill()
        federation.start(crash_at=point)
        await federation.create_task("credit", spec)
        federation.start_clients("credit")
        await federation.died()
        federation.start()
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        rounds = await federation.history("credit")
        assert [round_.attempt for round_ in rounds] == [1]  # resumed, not repeated
        await check_average_round(federation, "credit", spec, set(federation.banks))
        assert not any(client.errors for client in federation.clients.values())


async def test_a_kill_at_a_random_moment_of_each_of_many_rounds(tmp_path):
    spec = task_spec(rounds=6)
    async with Federation(tmp_path, grace_s=60) as federation:
        await federation.create_task("credit", spec)
        federation.start_clients("credit")
        for delay_s in (1.3, 1.6, 1.9, 2.2):
            await asyncio.sleep(delay_s)
            federation.kill()
            federation.start()
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED
        await check_average_round(federation, "credit", spec, set(federation.banks))
