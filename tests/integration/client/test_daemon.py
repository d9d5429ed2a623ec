"""The command line and the daemon as an operator uses them: processes, files, exit codes."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from finsecure.aggregation.v1 import tasks_pb2
from finsecure_rpc.identity_store import IdentityStore

from tests.support.client import FACTORY, rows, write_csv, write_factory
from tests.support.client_federation import running_federation

BANKS = ["bank-a", "bank-b", "bank-c"]
CONFIG = """
[client]
federation = "lending"
identity_dir = "identity"
root = "../root.pem"
keyservice = "{keyservice}"
keyservice_enrol = "{keyservice_enrol}"
aggregator = "{aggregator}"
state_dir = "state"
poll_interval_s = 0.2
[data]
path = "loans.csv.gz"
[trainer]
models = ["{factory}"]
python_path = ["models"]
seed = 1
[policy]
tasks = ["credit"]
[egress]
manifest = "egress.jsonl"
"""


def write_home(federation, bank: str, **changes: str) -> Path:
    home = federation.folder / bank
    home.mkdir()
    write_csv(home / "loans.csv.gz", rows(200, seed=BANKS.index(bank)))
    write_factory(home / "models")
    text = CONFIG.format(factory=FACTORY, **federation.addresses)
    for old, new in changes.items():
        text = text.replace(old, new)
    (home / "client.toml").write_text(text)
    return home


async def command(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
    process = await spawn(*arguments)
    out, err = await asyncio.wait_for(process.communicate(stdin), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def spawn(*arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from finsecure_client.main import main; main()",
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


async def enrol(federation, bank: str, home: Path) -> tuple[int, str, str]:
    key = f"fs_{bank}_0123456789abcdef0123456789"
    federation.keyservice.api_keys[key] = federation.pki.spiffe_id("client", bank)
    return await command(
        "enrol", "--config", home / "client.toml", "--api-key-file", "-", stdin=f"{key}\n".encode()
    )


@pytest.fixture
async def federation(tmp_path):
    async with running_federation(tmp_path) as running:
        yield running


@pytest.mark.timeout(120)
async def test_daemons_train_and_stop(federation):
    processes = []
    try:
        for bank in BANKS:
            home = write_home(federation, bank)
            code, out, err = await enrol(federation, bank, home)
            assert (code, out) == (
                0,
                f"enrolled as spiffe://lending.finsecure.internal/client/{bank}\n",
            ), err
            processes.append(await spawn("run", "--config", home / "client.toml"))
        fake = federation.aggregator
        fake.phase_s = 60
        async with asyncio.timeout(240):
            while sum(map(bool, fake._streams.values())) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        sums = await fake.run_round(BANKS)
        assert sums["examples"][:2].tolist() == [480, 120]
        assert sums["weight"].tolist() == [480]
        assert np.any(sums["update"] != 0)

        # What left is in the manifest, and nothing else is asked of the operator.
        home = federation.folder / "bank-a"
        code, out, _ = await command("egress", "--config", home / "client.toml", "--json")
        report = json.loads(out)
        assert code == 0
        kinds = {total["kind"]: total for total in report["totals"]}
        assert kinds["masked or encrypted model update"]["bytes"] == len(
            next(iter(fake._uploads.values()))
        )
        assert kinds["API key"]["fields"] == 1
        code, out, _ = await command("egress", "--config", home / "client.toml", "--round", "1-1")
        assert code == 0
        assert "masked" in out  # the table breaks the line where the terminal is narrow
        assert "API key" not in out
        code, out, err = await command("egress", "--config", home / "client.toml", "--round", "9-9")
        assert (code, out) == (4, "")
        assert err.endswith("[ROUND_NOT_FOUND]\n")

        code, out, err = await command(
            "evaluate", "--config", home / "client.toml", "--task", "credit", "--json"
        )
        assert code == 0, err
        score = json.loads(out)
        assert score["examples"] == 40
        assert score["loss"] == pytest.approx(np.log(2))  # the zero model
        assert score["auc"] == 0.5

        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            _, err_bytes = await asyncio.wait_for(process.communicate(), 20)
            assert process.returncode == 0
            assert b"Traceback" not in err_bytes
            events = [json.loads(line)["event"] for line in err_bytes.splitlines()]
            assert events[0] == "client started"
            assert events[-1] == "client stopped"
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_bad_table_is_said_and_the_task_left_alone(federation):
    home = write_home(federation, "bank-a")
    (home / "loans.csv.gz").unlink()
    await enrol(federation, "bank-a", home)
    process = await spawn("run", "--config", home / "client.toml")
    try:
        async with asyncio.timeout(30):
            while b"DATA_MISSING" not in (line := await process.stderr.readline()):
                assert line
        assert json.loads(line)["task"] == federation.aggregator.task.name
        assert not any(federation.aggregator._streams.values())
    finally:
        process.terminate()
        await process.wait()


async def test_revoked_client_stops_with_an_error(federation):
    home = write_home(federation, "bank-a")
    await enrol(federation, "bank-a", home)
    process = await spawn("run", "--config", home / "client.toml")
    async with asyncio.timeout(30):
        while not any(federation.aggregator._streams.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    federation.pki.revoke(IdentityStore(home / "identity").current().certified.serial)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 3
    last = err.decode().splitlines()[-1]
    assert last.startswith("error: ")
    assert last.endswith("[CERTIFICATE_REVOKED]")
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("old", "new", "arguments", "code", "reason"),
    [
        ("tasks", "taks", ["run"], 2, "CONFIG_INVALID"),
        ("\n", "\n", ["run"], 2, "IDENTITY_MISSING"),
        ("\n", "\n", ["evaluate", "--task", "credit"], 2, "IDENTITY_MISSING"),
        ("\n", "\n", ["enrol", "--api-key-file", "absent"], 2, "API_KEY_MISSING"),
        ("\n", "\n", ["enrol", "--api-key-file", "-"], 3, "API_KEY_REFUSED"),
        ("../root.pem", "none.pem", ["enrol", "--api-key-file", "-"], 2, "ROOT_MISSING"),
        ("../root.pem", "client.toml", ["enrol", "--api-key-file", "-"], 2, "ROOT_INVALID"),
    ],
)
async def test_errors_are_one_line_and_an_exit_code(federation, old, new, arguments, code, reason):
    home = write_home(federation, "bank-a", **{old: new})
    found, out, err = await command(
        arguments[0],
        "--config",
        home / "client.toml",
        *arguments[1:],
        stdin=b"fs_bank-a_wrongwrongwrongwrongwrong",
    )
    assert (found, out) == (code, "")
    assert err.splitlines()[-1].endswith(f"[{reason}]")
    assert "Traceback" not in err
    assert "wrongwrong" not in err


async def test_unreachable_servers(federation):
    home = write_home(federation, "bank-a")
    await enrol(federation, "bank-a", home)
    path = home / "client.toml"
    path.write_text(path.read_text().replace(federation.addresses["aggregator"], "127.0.0.1:9"))
    found, _, err = await command("evaluate", "--config", path, "--task", "credit")
    assert found == 5
    assert err.splitlines()[-1].endswith("[SERVICE_UNREACHABLE]")


async def test_unknown_task(federation):
    home = write_home(federation, "bank-a")
    await enrol(federation, "bank-a", home)
    found, _, err = await command("evaluate", "--config", home / "client.toml", "--task", "absent")
    assert found == 4
    assert err.splitlines()[-1].endswith("[TASK_NOT_FOUND]")


async def test_wrong_federation(federation):
    home = write_home(federation, "bank-a", lending="leasing")
    federation.keyservice.api_keys["fs_k_0123456789abcdef0123456789"] = federation.pki.spiffe_id(
        "client", "bank-a"
    )
    found, _, err = await command(
        "enrol",
        "--config",
        home / "client.toml",
        "--api-key-file",
        "-",
        stdin=b"fs_k_0123456789abcdef0123456789",
    )
    assert found == 2
    assert err.splitlines()[-1].endswith("[FEDERATION_MISMATCH]")


async def test_tasks_that_are_over_are_left_alone(federation):
    federation.aggregator.task.state = tasks_pb2.TASK_STATE_CANCELLED
    federation.start("bank-a")
    status = await asyncio.wait_for(federation.tasks["bank-a"], 10)
    assert status.state == "cancelled"
    assert not federation.aggregator._streams["bank-a"]
