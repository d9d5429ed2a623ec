"""Members that come in by a join token: clients, and a second aggregator beside the first."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from finsecure.aggregation.v1 import tasks_pb2, tasks_pb2_grpc
from finsecure_cli.processes import command_path
from finsecure_cli.settings import load_operator
from finsecure_cli.transport import Services

from tests.integration.cli.conftest import Run, Up
from tests.support.federation import task_name, task_spec

PATIENCE_S = 60.0


def _command(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command_path(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _invite(operator: Run, file: Path, *options: str) -> str:
    """Make a token in a file; returns its id."""
    made = operator("member", "invite", "--output", str(file), "--json", *options)
    assert made.returncode == 0, made.stderr
    shown = json.loads(made.stdout)
    assert file.read_text().startswith("fsj_")
    assert file.read_text().strip() not in made.stdout + made.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return str(shown["name"]).rpartition("/")[2]


def test_clients_come_in_by_a_token_and_are_put_out_together(
    up: Up, operator: Run, tmp_path: Path
) -> None:
    file = tmp_path / "branches.token"
    token = _invite(operator, file, "--prefix", "branch-", "--uses", "2")
    text = (up.folder / "clients" / "bank-a.toml").read_text()
    for name in ("branch-1", "branch-2"):
        config = up.folder / "clients" / f"{name}.toml"
        config.write_text(text.replace("bank-a", name))
        enrolled = _command(
            "finsecure-client",
            *("enrol", "--config", config, "--join-token-file", file, "--id", name),
        )
        assert enrolled.returncode == 0, enrolled.stderr
        assert enrolled.stdout.strip().endswith(f"/client/{name}")
    listed = operator("member", "invitations").stdout
    assert "2 of 2" in listed
    assert "spent" in listed
    came = json.loads(operator("member", "invitations", token, "--json").stdout)
    names = [f"federations/lending/clients/branch-{number}" for number in (1, 2)]
    assert [use["member"] for use in came] == names
    gone = operator("member", "uninvite", token, "--reason", "leak", "--members", "--json")
    assert json.loads(gone.stdout)["revoked_members"] == names


@pytest.fixture
def second(up: Up) -> tuple[Path, Path]:
    """Configurations of a second aggregator and of an operator that calls it; both new."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    first = up.folder / "aggregator.toml"
    address = next(
        line for line in first.read_text().splitlines() if line.startswith("listen")
    ).split('"')[1]
    other = f"{address.rpartition(':')[0]}:{port}"
    config, calling = up.folder / "aggregator-2.toml", up.folder / "operator-2.toml"
    config.write_text(
        first.read_text().replace(address, other).replace('"aggregator/', '"aggregator-2/')
    )
    calling.write_text((up.folder / "operator.toml").read_text().replace(address, other))
    return config, calling


async def _create(config: Path, task: str) -> list[str]:
    """Create a task at the aggregator that a configuration names; returns its tasks."""
    async with Services(load_operator(config), wait_for_ready=True) as services:
        request = tasks_pb2.CreateTaskRequest(
            task=tasks_pb2.Task(name=task_name(task), spec=task_spec()),
            request_id=str(uuid.uuid4()),
        )
        await services.aggregator(tasks_pb2_grpc.TaskServiceStub, "CreateTask", request)
        return [item["name"] for item in await services.list_tasks()]


def test_two_aggregators_of_one_federation_serve_side_by_side(
    up: Up, operator: Run, second: tuple[Path, Path], tmp_path: Path
) -> None:
    config, calling = second
    file = tmp_path / "aggregators.token"
    _invite(operator, file, "--role", "aggregator", "--prefix", "agg-", "--uses", "1")
    enrolled = _command(
        "finsecure-aggregator",
        *("enrol", "--config", config, "--join-token-file", file, "--id", "agg-2"),
    )
    assert enrolled.returncode == 0, enrolled.stderr
    assert enrolled.stdout.strip().endswith("/aggregator/agg-2")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [command_path("finsecure-aggregator"), "run", "--config", str(config)],
            stdout=log,
            stderr=log,
            env=os.environ,
        )
        try:
            deadline = time.monotonic() + PATIENCE_S
            while _command("finsecure-aggregator", "health", "--config", config).returncode:
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
            # Who calls says where; each has its own tasks and knows nothing of the other's.
            first = up.folder / "operator.toml"
            assert asyncio.run(_create(first, "cards")) == [task_name("cards")]
            assert asyncio.run(_create(calling, "loans")) == [task_name("loans")]
        finally:
            process.terminate()
            process.wait(30)
