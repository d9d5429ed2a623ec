"""Rounds of an aggregator whose arithmetic runs in processes of its own, or on a Ray cluster."""

import os
import signal
from pathlib import Path

import pytest
from finsecure.aggregation.v1 import tasks_pb2

from tests.support.federation import CONFIRM, Federation, task_spec
from tests.support.rounds import check_average_round


def configure(federation: Federation, lines: str) -> None:
    """Start the aggregator again with another arithmetic."""
    federation.kill()
    federation.config.write_text(f"{federation.config.read_text()}\n[arithmetic]\n{lines}\n")
    federation.start()


def workers(federation: Federation) -> list[int]:
    pid = federation.process.pid
    children = [
        int(child)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]
    return [c for c in children if "slice_worker" in Path(f"/proc/{c}/cmdline").read_text()]


async def play(federation: Federation, hooks: dict) -> None:
    spec = task_spec(rounds=1)
    await federation.create_task("credit", spec)
    federation.start_clients("credit", hooks)
    task = await federation.ended("credit")
    assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
    await check_average_round(federation, "credit", spec, set(federation.banks))


def stops_in_peace(federation: Federation) -> bool:
    federation.process.terminate()
    return federation.process.wait(20) == 0


async def test_a_round_survives_its_worker_processes(tmp_path):
    killed = []

    async def kill(_client, kind, _item):
        if kind == CONFIRM and not killed:  # all inputs are in, and none of them unmasked
            killed.extend(workers(federation))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    async with Federation(tmp_path) as federation:
        configure(federation, 'backend = "processes"')
        await play(federation, {"bank-1": kill})
        assert killed
        assert workers(federation) == []
        assert "slice_lost" in federation.log.read_text()
        assert stops_in_peace(federation)


@pytest.mark.slow
async def test_a_round_on_a_ray_cluster(tmp_path, monkeypatch):
    pytest.importorskip(
        "ray", reason="Ray is not installed: pip install 'finsecure[ray]' (make setup does it)"
    )
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        async with Federation(tmp_path) as federation:
            configure(federation, f'backend = "ray"\nray_address = "{cluster.address}"')
            await play(federation, {})
            assert stops_in_peace(federation)
    finally:
        cluster.shutdown()
