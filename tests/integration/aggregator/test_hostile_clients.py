"""Members that break the protocol where masks hide it: the round ends, says why, and goes on."""

import numpy as np
import pytest
from finsecure.aggregation.v1 import tasks_pb2

from tests.support.federation import SUBMIT, Federation, LeaveError, task_spec
from tests.support.rounds import check_average_round


class Nonsense:
    """A layout that encodes to words which no honest vector has."""

    def __init__(self, layout):
        self._layout = layout

    def __getattr__(self, name):
        return getattr(self._layout, name)

    def encode(self, values, generator):
        self._layout.encode(values, generator)
        return np.full(self._layout.words, 2**63, np.uint64)


def spoil(rounds: int):
    """A hook: the client submits nonsense in so many rounds, then leaves."""
    spoilt = []

    async def hook(client, kind, item):
        if kind == SUBMIT:
            if len(spoilt) == rounds:
                raise LeaveError
            spoilt.append(item.round)
            layout, *rest = client._layouts[item.round]
            client._layouts[item.round] = (Nonsense(layout), *rest)

    return hook


async def test_input_out_of_range_ends_the_attempt_and_the_task_goes_on(tmp_path):
    spec = task_spec()
    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", spec)
        federation.start_clients("credit", {"bank-0": spoil(1)})
        task = await federation.ended("credit")
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        first, second = await federation.history("credit")
        assert first.abort_reason == "SUM_OUT_OF_RANGE"
        assert not first.blamed  # the masks hide whose input it was
        assert first.result_model == ""
        assert second.attempt == 2
        await check_average_round(federation, "credit", spec, set(federation.banks) - {"bank-0"})


@pytest.mark.slow
async def test_who_goes_on_spoiling_ends_the_task(tmp_path):
    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", task_spec())
        federation.start_clients("credit", {"bank-0": spoil(99)})
        task = await federation.ended("credit", 110)
        assert task.state == tasks_pb2.TASK_STATE_FAILED
        assert "SUM_OUT_OF_RANGE" in task.state_detail
        assert len(await federation.history("credit")) == 5
