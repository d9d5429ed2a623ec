"""A federation that trains on while every key of it is rotated, by the documented commands.

Key service, aggregator, three trustees and three banks run as they are shipped, each in a process
of its own; a masked and an encrypted task go on all the time, and each round needs all three banks.
No round fails, nobody is refused a call, every model verifies, and who has followed the audit log
from its first event still can.
"""

import re
import time
from pathlib import Path

import pytest
from finsecure_crypto.errors import AuthenticationError, UnavailableError

from tests.support.documents import OPERATIONS, PATIENCE_S
from tests.support.drill_federation import MASKS, TRUSTEES, DrillFederation, drill_federation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def encrypted(key: str) -> str:
    return f'protection = "bgv"\nencryption_key = "{key}"'


def begin(federation: DrillFederation) -> None:
    """Make the keys of models and of inputs, and begin both tasks."""
    federation.audit()
    call = federation.shell.call
    call("finsecure", "keys", "ring", "models")
    call("finsecure", "keys", "create", "models/global")
    call("finsecure", "ceremony", "run", "first", "--mode", "bgv")
    until_enabled(federation, 1)
    federation.create_task("masked", MASKS)
    federation.create_task("encrypted", encrypted("first"))
    federation.train_on("masked", "encrypted")


def until_enabled(federation: DrillFederation, version: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while (found := federation.document("keys", "list", "models/global"))[-1]["state"] != "enabled":
        assert time.monotonic() < end, found
    assert len(found) == version


def change_the_authority(federation: DrillFederation) -> None:
    """The four steps; everybody gets certificates for new keys from the new authority."""
    before = federation.identities()
    (former,) = federation.document("ca", "status")
    federation.shell.values["FORMER"] = former["name"].rpartition("/")[2]
    federation.shell.run(OPERATIONS, "authority")
    after = federation.identities()
    assert len(after) == len(before) == 12
    for who, old in before.items():
        new = after[who]
        assert new.certified.issuer != old.certified.issuer, who
        assert new.certified.public_key != old.certified.public_key, who
        assert new.signing.public_key != old.signing.public_key, who


def change_the_encryption_key(federation: DrillFederation) -> None:
    """Tasks keep their key until they end; new ones take the new key."""
    shell = federation.shell
    shell.values |= {"NEW": "second", "OLD": "first", "TASK": "encrypted"}
    federation.write_task("encrypted-anew", encrypted("second"))
    shell.run(OPERATIONS, "new-encryption-key")
    federation.train_on("encrypted", "encrypted-anew")
    shell.run(OPERATIONS, "old-encryption-key")
    assert [item["state"] for item in federation.document("key", "list")] == [
        "deactivated",
        "enabled",
    ]


def until_let_in(federation: DrillFederation) -> None:
    """Wait until the aggregator has a list again; here they end after seconds instead of hours."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            federation.rounds("masked")
            return
        except (AuthenticationError, UnavailableError):
            assert time.monotonic() < end
            time.sleep(0.3)


def check_models(federation: DrillFederation, tasks: list[str]) -> None:
    """Models of before, between and after all rotations verify today."""
    for task in tasks:
        for version in ("0", "1", "latest"):
            out = str(federation.folder / "downloaded")
            download = ("model", "download", task, "--version", version, "--out", out)
            federation.shell.call("finsecure", *download)
    files = sorted((federation.folder / "downloaded").glob("*.safetensors"))
    assert len(files) == 3 * len(tasks)
    federation.shell.call("finsecure", "model", "verify", *map(str, files))


def check_rounds(federation: DrillFederation, tasks: list[str]) -> None:
    """Every round has completed, but for one that is under way or was cancelled with its task."""
    for task in tasks:
        rounds = federation.rounds(task)
        assert {round_["state"] for round_ in rounds[:-1]} == {"completed"}, task
        assert {round_["attempt"] for round_ in rounds} == {1}, task
        assert not any(round_["blamed"] for round_ in rounds), task


def check_the_log(federation: DrillFederation) -> None:
    """Who followed from the beginning has a copy that fits, with each rotation in it."""
    federation.shell.call("finsecure", "audit", "verify", person="auditor")
    federation.audit()
    verify = ("verify", "--file", "archive.jsonl")
    federation.shell.call("finsecure", "audit", *verify, person="auditor")
    actions = re.findall(r'"action":"([^"]+)"', (federation.folder / "archive.jsonl").read_text())
    assert {
        "key-encryption-key.rotate",
        "api-key-pepper.rotate",
        "audit-key.announce",
        "encryption-key.renew-endorsements",
    } <= set(actions)


def test_training_goes_on_through_a_rotation_of_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with drill_federation(tmp_path / "federation", TRUSTEES) as federation:
        begin(federation)
        shell = federation.shell
        shell.run(OPERATIONS, "machine-keys")
        for trustee in TRUSTEES:
            shell.values["TRUSTEE"] = f"trustees/{trustee}"
            shell.run(OPERATIONS, "trustee-keys")
        shell.values["OLD"] = federation.log_key()
        shell.run(OPERATIONS, "audit-key")
        shell.call("finsecure", "keys", "rotate", "models/global")
        until_enabled(federation, 2)
        federation.train_on("masked", "encrypted")
        change_the_authority(federation)
        federation.train_on("masked", "encrypted")
        change_the_encryption_key(federation)
        tasks = ["masked", "encrypted", "encrypted-anew"]
        check_rounds(federation, tasks)
        assert not federation.refused_calls()
        for process in federation.processes.values():
            assert "Traceback" not in process.log.read_text(), process.log
        # What was rotated opens again from the disk.
        keyservice = federation.processes["keyservice"]
        keyservice.kill()
        keyservice.start()
        until_let_in(federation)
        federation.train_on("masked", "encrypted-anew")
        check_models(federation, tasks)
        check_the_log(federation)
