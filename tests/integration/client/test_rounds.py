"""Whole rounds over gRPC: sums are exact, and whatever goes wrong on the way is survived."""

import asyncio

import numpy as np
from finsecure.aggregation.v1 import tasks_pb2

BANKS = ["bank-a", "bank-b", "bank-c", "bank-d"]


def start_all(federation, **trainers):
    for bank in BANKS:
        federation.start(bank, trainers.get(bank.replace("-", "_")))


def expected_counts(sums, clients, examples=100):
    assert sums["weight"].tolist() == [examples * clients]
    assert sums["examples"].tolist() == [examples * clients, 10 * clients, 4 * clients]
    assert sums["loss_q16"].tolist() == [round(6.5 * 2**16) * clients]
    assert int(sums["scores"].sum()) == 10 * clients


async def test_round_sums_what_all_have_computed(federation):
    start_all(federation)
    await federation.aggregator.available(4)
    sums = await federation.aggregator.run_round(BANKS)
    expected_counts(sums, 4)
    # Each moves by 0.25, weighted with 100 / 1000, in steps of 2 · 2 / (2^16 - 2).
    steps = 4 * 0.25 * 0.1 / (2 / (2**15 - 1))
    assert np.allclose(sums["update"], steps, atol=4)
    federation.aggregator.task.state = tasks_pb2.TASK_STATE_COMPLETED
    done = await asyncio.gather(*federation.tasks.values())
    assert [status.state for status in done] == ["completed"] * 4
    assert all(o.completed for seen in federation.outcomes.values() for o in seen)
    assert not federation.aggregator.declined
