"""The drills of the operator's guide for incidents, by their commands, while banks train."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.support.documents import OPERATIONS, CommandRefusedError, last_list
from tests.support.drill_federation import BANKS, MASKS, DrillFederation, drill_federation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def restart(federation: DrillFederation, bank: str) -> None:
    process = federation.processes[bank]
    process.kill()
    process.start()


def test_training_goes_on_after_a_suspension_a_stolen_key_and_a_leaked_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with drill_federation(tmp_path / "federation") as federation:
        shell = federation.shell
        shell.patient |= {"KEY_STATE", "KEY_NOT_READY"}  # a version is made in the background
        shell.run(OPERATIONS, "managed-key")
        states = [item["state"] for item in federation.document("keys", "list", "models/global")]
        assert states == ["disabled", "enabled"]
        federation.create_task("masked", MASKS)
        federation.train_on("masked")

        shell.run(OPERATIONS, "suspend")
        federation.train_on("masked")

        latest = federation.document("task", "show", "masked")["latest_model"]
        shell.values |= {"TASK": "masked", "N": latest.rpartition("/")[2]}
        assert "model.sign" in shell.run(OPERATIONS, "stolen-signing-key")
        federation.train_on("masked")
        states = [item["state"] for item in federation.document("keys", "list", "models/global")]
        assert states == ["disabled", "compromised", "enabled"]

        said = shell.run(OPERATIONS, "leaked-api-key")
        assert "member.enrol" in said
        identity = federation.folder / "clients" / "bank-a" / "identity"
        federation.processes["bank-a"].kill()
        identity.rename(identity.with_name("identity.before"))
        enrol = ("enrol", "--config", "clients/bank-a.toml", "--api-key-file", "bank-a.key")
        shell.call("finsecure-client", *enrol)
        federation.processes["bank-a"].start()
        federation.train_on("masked")


def test_members_go_on_after_a_restore_of_an_older_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with drill_federation(tmp_path / "federation") as federation:
        shell, folder = federation.shell, federation.folder
        federation.audit()
        shell.call("finsecure", "keys", "ring", "models")
        shell.call("finsecure", "keys", "create", "models/global")
        federation.create_task("masked", MASKS)
        federation.train_on("masked")
        places = {"BACKUP": "backup", "KEYS": "keys"}
        shell.values |= {name: str(folder / place) for name, place in places.items()}
        shell.values |= {"KEY": federation.log_key(), "MEMBER": "bank-d"}
        shell.values["NUMBER"] = lambda: last_list(shell)
        shell.run(OPERATIONS, "backup")
        shell.call("finsecure", "member", "add", "bank-d", "--key-file", "bank-d.key")

        asyncio.run(federation.processes["keyservice"].stop())
        (folder / "keyservice").rename(folder / "keyservice.before")
        with pytest.raises(CommandRefusedError) as caught:
            shell.run(OPERATIONS, "restore")
        assert caught.value.code == "AUDIT_LOG_ROLLED_BACK"
        shell.values["LAST"] = re.findall(r"the last one is (\d+)", shell.output)[-1]
        assert "member.create" in shell.run(OPERATIONS, "rolled-back")
        # What was lost: the member, who is made and put out again.
        shell.call("finsecure", "member", "add", "bank-d", "--key-file", "bank-d.again.key")
        shell.run(OPERATIONS, "revoke-again")
        for bank in BANKS:  # their owners have compared the copies
            (folder / "clients" / bank / "state" / "audit.json").unlink()
            restart(federation, bank)
        federation.train_on("masked")
        shell.call("finsecure", "audit", "verify")
