"""A drill: a running federation changes its intermediate authority, by the documented commands.

Key service, aggregator and five banks run as they are shipped, each in a process of its own; rounds
follow upon one another. Nobody is refused a call on the way, and no round is lost.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from finsecure_cli import approval_transport, authority_transport
from finsecure_cli.commands.task import create_task
from finsecure_cli.deployment import Deployment, bring_up
from finsecure_cli.enrolment import enrol_operator
from finsecure_cli.initial import build_initial_model
from finsecure_cli.processes import ServiceProcess, run_command
from finsecure_cli.renewal import renew_if_due
from finsecure_cli.settings import OperatorSettings
from finsecure_cli.task_file import TaskFile
from finsecure_cli.transport import Services
from finsecure_crypto.errors import StateError
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.config import load
from finsecure_rpc.root_signing import (
    read_certificate,
    read_root_key,
    sign_request,
    write_request,
)

from tests.integration.test_chaos import write_files

LIST_S = 20
"""Life of a revocation list: what a change of authorities waits for, twice."""

REFUSALS = re.compile("CERTIFICATE|REVOCATION|MEMBER_|SERVER_UNTRUSTED|ROLE_")


async def officer(deployment: Deployment, name: str) -> OperatorSettings:
    """A security officer, made as the README says."""
    key = deployment.folder / f"{name}.key"
    command = ["finsecure-keyservice", "operator-key", "--role", "officer", "--operator", name]
    config = str(deployment.folder / "keyservice.toml")
    await run_command([*command, "--config", config, "--output", str(key)])
    settings = deployment.operator.model_copy(
        update={"identity_dir": deployment.folder / f"officer-{name}"}
    )
    await enrol_operator(settings, SecretBytes(key.read_bytes().strip()))
    return settings


async def act(settings: OperatorSettings, what: Callable[[Services], Awaitable[Any]]) -> Any:
    """What a command does: renew if there is need, connect, act."""
    await renew_if_due(settings)
    async with Services(settings) as services:
        return await what(services)


async def patiently(settings: OperatorSettings, what: Callable[[Services], Awaitable[Any]]) -> Any:
    """Repeat a step until its time has come, as its answer says."""
    async with asyncio.timeout(240):
        while True:
            try:
                return await act(settings, what)
            except StateError as error:
                if error.code not in {"AUTHORITY_NOT_PROPAGATED", "AUTHORITY_NEEDED"}:
                    raise
            await asyncio.sleep(1)


async def rotate(deployment: Deployment, carol: OperatorSettings, dave: OperatorSettings) -> None:
    folder, admin = deployment.folder, deployment.operator
    (former,) = await act(admin, authority_transport.list_authorities)
    prepared = await act(admin, authority_transport.prepare_authority)
    name = prepared["name"]
    write_request(folder / "next.csr", bytes.fromhex(prepared["csr"]))
    root_key = next(folder.rglob("root.key"))
    offline = root_key.rename(folder / "offline.key")
    sign_request(
        folder / "next.csr",
        folder / "root.pem",
        lambda _: read_root_key(offline),
        folder / "next.pem",
        datetime.now(UTC),
        timedelta(days=30),
    )
    der = read_certificate(folder / "next.pem")
    await act(admin, lambda services: authority_transport.install_authority(services, name, der))
    await patiently(
        admin,
        lambda services: authority_transport.activate_authority(services, name, force=False),
    )
    await act(
        admin,
        lambda services: authority_transport.taint_authority(services, former["name"], "drill"),
    )

    # Whoever runs no command renews nothing: the administrator looks once more.
    await act(admin, authority_transport.list_authorities)

    def revoke(services: Services) -> Awaitable[Any]:
        return authority_transport.revoke_authority(services, former["name"], "drill", force=False)

    with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
        await act(carol, revoke)
    (proposal,) = await act(
        dave, lambda services: approval_transport.list_proposals(services, open_only=True)
    )
    await act(
        dave, lambda services: approval_transport.approve_proposal(services, proposal["name"])
    )
    done = await patiently(carol, revoke)
    assert done["state"] == "revoked"


def refused(log: Path) -> list[dict[str, Any]]:
    """Calls that were refused for who called; streams that ended with the former authority are not.

    A stream that was opened with a certificate of the former authority is opened again.
    """
    found = []
    for line in log.read_text().splitlines():
        if not line.startswith("{"):
            continue
        entry = json.loads(line)
        if entry.get("event") == "call refused" and REFUSALS.search(entry["code"]):
            found.append(entry)
    return [
        entry
        for entry in found
        if not ("Watch" in entry["method"] and entry["code"] == "CERTIFICATE_UNTRUSTED")
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_federation_goes_on_through_a_change_of_its_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    deployment = Deployment(tmp_path / "federation")
    processes: list[ServiceProcess] = []
    try:
        await write_files(deployment)
        config = deployment.folder / "keyservice.toml"
        lifetime = re.compile(r"(?m)^(certificate|revocation_list)_lifetime_h .*")
        text = lifetime.sub("", config.read_text())
        first, found, rest = text.partition("\n[")
        lifetimes = f"certificate_lifetime_h = 0.5\nrevocation_list_lifetime_h = {LIST_S / 3600}\n"
        config.write_text(f"{first}\n{lifetimes}{found}{rest}")
        await bring_up(deployment, clients=True, started=processes.append)
        carol, dave = await officer(deployment, "carol"), await officer(deployment, "dave")
        async with Services(deployment.operator, wait_for_ready=True) as services:
            task_file = load(deployment.folder / "task.toml", TaskFile).model_copy(
                update={"rounds": 500}
            )
            initial = await asyncio.to_thread(
                build_initial_model,
                task_file.model.factory,
                task_file.inputs,
                (deployment.folder / "models",),
            )
            await create_task(services, task_file, initial)
        await rotate(deployment, carol, dave)
        done = await act(carol, lambda services: services.get_task(task_file.name))
        async with asyncio.timeout(120):  # and on it goes
            while True:
                now = await act(carol, lambda services: services.get_task(task_file.name))
                if now["completed_rounds"] >= done["completed_rounds"] + 2:
                    break
                await asyncio.sleep(0.5)
        rounds = await act(carol, lambda services: services.list_rounds(task_file.name))
        assert {round_["state"] for round_ in rounds[:-1]} == {"completed"}
        for process in processes:
            assert "Traceback" not in process.log.read_text(), process.log
        assert not [entry for process in processes for entry in refused(process.log)]
    finally:
        for process in processes:
            process.kill()
