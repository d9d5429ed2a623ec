"""The demonstration itself, shortened: seven processes, one killed mid-round, one report."""

import json
import time
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Run
from tests.support.leaks import leaks, secrets_of


@pytest.mark.timeout(300)
def test_short_demonstration_completes_without_the_killed_bank(
    finsecure: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = finsecure("demo", "--out", str(out), "--rounds", "3", timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr

    findings = json.loads((out / "findings.json").read_text())
    assert findings["task"]["state"] == "completed"
    assert findings["task"]["completed_rounds"] == 3
    rounds = [item for item in findings["rounds"] if item["state"] == "completed"]
    assert [item["number"] for item in rounds] == [0, 1, 2, 3]
    assert rounds[0]["kind"] == "statistics"

    # The killed bank was invited, shared its keys, and is not in the sum; nothing was repeated.
    missed = next(item for item in rounds if item["name"] == findings["missed_round"])
    clients = {phase["phase"]: set(phase["clients"]) for phase in missed["phases"]}
    assert "bank-b" in missed["invited"]
    assert "bank-b" in clients["share_keys"]
    assert clients["submit_input"] == {"bank-a", "bank-c", "bank-d", "bank-e"}
    assert missed["attempt"] == 1

    scores = findings["scores"]
    assert set(scores["banks"]) == {"bank-a", "bank-b", "bank-c", "bank-d", "bank-e"}
    assert scores["test_loans"] == 2956
    aucs = list(scores["federated_auc"].values())
    assert len(aucs) == 5  # the initial model, the statistics, three rounds
    assert aucs[0] == aucs[1] == 0.5
    assert aucs[-1] > 0.68

    # Only protocol messages have left the bank: nothing is described as data.
    kinds = {total["kind"] for total in findings["egress"]["totals"]}
    assert "masked or encrypted model update" in kinds
    assert findings["egress"]["bytes"] < 200_000

    page = (out / "report.html").read_text()
    assert "the process of bank-b was killed" in page
    assert "data:image/png;base64," in page
    assert (out / "report.png").stat().st_size > 20_000
    assert len(list((out / "models").glob("*.safetensors"))) == 5
    assert "federated" in done.stdout

    # A bank's folder holds its own slice and no other bank's identity is readable by others.
    for bank in scores["banks"]:
        identity = out / "federation" / "clients" / bank / "identity"
        assert identity.stat().st_mode & 0o077 == 0

    # Nothing that any of the processes wrote (logs, databases, manifests, models, reports, the
    # terminal) holds a key of any of them.
    secrets = secrets_of(out)
    owners = {what.partition("/")[2].partition("/")[0] for what in secrets}
    assert {"keyservice", "clients", "operator", "aggregator"} <= owners, owners
    assert leaks(out, secrets, done.stdout, done.stderr) == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_whole_demonstration_gets_the_bank_back_within_three_minutes(
    finsecure: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    started = time.monotonic()
    done = finsecure("demo", "--out", str(out), timeout=380)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - started < 180

    findings = json.loads((out / "findings.json").read_text())
    rounds = [item for item in findings["rounds"] if item["state"] == "completed"]
    assert [item["number"] for item in rounds] == list(range(21))
    summed = [set(phase["clients"]) for item in rounds for phase in item["phases"][2:3]]
    missing = [number for number, clients in enumerate(summed) if "bank-b" not in clients]
    assert missing  # it was gone for a while …
    assert "bank-b" in summed[-1]  # … and came back
    assert all(len(clients) >= 4 for clients in summed)

    scores = findings["scores"]
    alone = [bank["local_auc"] for bank in scores["banks"].values()]
    federated = list(scores["federated_auc"].values())[-1]
    assert federated > max(alone)
    assert abs(federated - scores["central_auc"]) < 0.02


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_same_federation_encrypts_for_trustees(finsecure: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = finsecure(
        *("demo", "--mode", "bgv", "--rounds", "1", "--no-kill", "--out", str(out)), timeout=380
    )
    assert done.returncode == 0, done.stdout + done.stderr
    findings = json.loads((out / "findings.json").read_text())
    statistics, training = findings["rounds"]
    for round_ in (statistics, training):
        assert round_["state"] == "completed"
        assert [phase["phase"] for phase in round_["phases"]] == ["submit_input", "opening"]
        assert sum(not answer["reason"] for answer in round_["trustees"]) == 2
    assert min(training["received_bytes"].values()) > 50_000  # ciphertexts are large
    assert "with two trustees it could open" in (out / "report.html").read_text()
    secrets = secrets_of(out)
    assert leaks(out, secrets, done.stdout, done.stderr) == []
