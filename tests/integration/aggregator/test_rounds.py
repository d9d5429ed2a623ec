"""Whole rounds over gRPC and mTLS, drop-outs at each phase among them."""

import pytest
from finsecure.aggregation.v1 import tasks_pb2

from tests.support.federation import CONFIRM, PHASES, REVEAL, Federation, leave_before, task_spec
from tests.support.rounds import check_average_round


async def test_a_round_equals_the_plain_computation(tmp_path):
    spec = task_spec(rounds=2)
    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", spec)
        federation.start_clients("credit")
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED
        assert task.completed_rounds == 2
        await check_average_round(federation, "credit", spec, set(federation.banks))
        assert not any(client.errors for client in federation.clients.values())


@pytest.mark.parametrize("phase", PHASES)
async def test_a_client_that_leaves_before_a_phase_spoils_nothing(tmp_path, phase):
    spec = task_spec()
    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", spec)
        federation.start_clients("credit", {"bank-2": leave_before(phase)})
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        survivors = set(federation.banks)
        if phase not in (CONFIRM, REVEAL):
            survivors -= {"bank-2"}
        await check_average_round(federation, "credit", spec, survivors)
