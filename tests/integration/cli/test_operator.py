"""An operator's day: every command against running services, right and wrong."""

import json
import stat
import subprocess
from pathlib import Path

import numpy as np
import safetensors.numpy
from cryptography.hazmat.primitives.serialization import (
    load_pem_public_key,
)
from finsecure_cli.processes import command_path
from finsecure_crypto.signatures import SignatureAlgorithm, SoftwareSigner

from tests.integration.cli.conftest import Run, Up

EXAMPLE = Path(__file__).parents[3] / "examples" / "lending_club"


def test_up_makes_the_federation_and_its_aggregator(operator: Run) -> None:
    federations = json.loads(operator("federation", "list", "--json").stdout)
    assert [item["name"] for item in federations] == ["federations/lending"]
    assert federations[0]["trust_domain"] == "lending.finsecure.internal"
    members = json.loads(operator("member", "list", "--json").stdout)
    assert [(m["name"], m["role"], m["state"]) for m in members] == [
        ("federations/lending/aggregators/main", "aggregator", "active")
    ]
    shown = operator("member", "list")
    assert "main" in shown.stdout


def test_api_keys_are_files_for_their_owner_alone(operator: Run, tmp_path: Path) -> None:
    key_file = tmp_path / "bank-x.key"
    made = operator("member", "add", "bank-x", "--key-file", str(key_file), "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["state"] == "invited"
    assert "fs_" not in made.stdout
    assert key_file.read_text().startswith("fs_")
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    occupied = operator("member", "key", "bank-x", "--key-file", str(key_file))
    assert occupied.returncode == 2
    assert "[FILE_EXISTS]" in occupied.stderr
    fresh = operator("member", "key", "bank-x")
    assert fresh.stdout.startswith("fs_")
    assert fresh.stdout.strip() != key_file.read_text().strip()

    again = operator("member", "add", "bank-x")
    assert again.returncode == 1
    gone = operator("member", "revoke", "bank-x", "--reason", "test", "--json")
    assert json.loads(gone.stdout)["state"] == "revoked"


def test_what_does_not_exist_is_status_4(operator: Run) -> None:
    for arguments in (
        ("member", "revoke", "nobody", "--reason", "x"),
        ("task", "show", "no-task"),
        ("task", "watch", "no-task"),
        ("task", "cancel", "no-task"),
        ("round", "list", "no-task"),
        ("round", "show", "no-task", "1-1"),
        ("model", "list", "no-task"),
        ("model", "download", "no-task"),
    ):
        result = operator(*arguments)
        assert result.returncode == 4, (arguments, result.stderr)
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1


def test_task_from_creation_to_cancellation(operator: Run, tmp_path: Path) -> None:
    text = (EXAMPLE / "task.toml").read_text()
    (tmp_path / "task.toml").write_text(text)
    (tmp_path / "model.py").write_text((EXAMPLE / "model.py").read_text())
    made = operator("task", "create", str(tmp_path / "task.toml"), "--json", timeout=110)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["state"] == "running"
    again = operator("task", "create", str(tmp_path / "task.toml"), timeout=110)
    assert again.returncode == 1

    shown = json.loads(operator("task", "show", "credit-default", "--json").stdout)
    assert shown["spec"]["cohort"] == {"minimum": 4, "maximum": 5, "weight_cap": 2000}
    listed = json.loads(operator("task", "list", "--json").stdout)
    assert [item["name"] for item in listed] == [shown["name"]]
    assert json.loads(operator("round", "list", "credit-default", "--json").stdout) == []

    got = operator(
        "model", "download", "credit-default", "--version", "all", "--out", str(tmp_path)
    )
    assert got.returncode == 0, got.stderr
    file = tmp_path / "credit-default-0.safetensors"
    assert safetensors.numpy.load_file(file)["0.weight"].shape == (16, 34)
    assert operator("model", "verify", str(file)).returncode == 0
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    spoilt = operator("model", "verify", str(file))
    assert spoilt.returncode == 1
    assert "[MODEL_DIGEST_MISMATCH]" in spoilt.stderr
    file.with_suffix(".json").unlink()
    assert "[DESCRIPTION_MISSING]" in operator("model", "verify", str(file)).stderr

    assert (
        json.loads(operator("task", "cancel", "credit-default", "--json").stdout)["state"]
        == "cancelled"
    )
    watched = operator("task", "watch", "credit-default", "--json")
    assert watched.returncode == 1
    assert json.loads(watched.stdout.splitlines()[-1])["task"]["state"] == "cancelled"


def test_task_takes_a_ready_initial_model(operator: Run, tmp_path: Path) -> None:
    text = (EXAMPLE / "task.toml").read_text().replace("credit-default", "ready-made")
    (tmp_path / "task.toml").write_text(text)
    model = tmp_path / "initial.safetensors"
    model.write_bytes(safetensors.numpy.save({"w": np.ones((1, 34), np.float32)}))
    made = operator("task", "create", str(tmp_path / "task.toml"), "--model", str(model), "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["spec"]["model"]["tensors"] == [{"name": "w", "shape": [1, 34]}]
    operator("task", "cancel", "ready-made")


def test_the_audit_log_is_shown_exported_and_verified(operator: Run, tmp_path: Path) -> None:
    assert operator("member", "add", "bank-audited").returncode == 0
    whole = operator("audit", "verify", "--json")
    assert whole.returncode == 0, whole.stderr
    assert json.loads(whole.stdout)["verified"] is True
    tail = operator("audit", "tail", "-n", "2", "--json")
    assert tail.returncode == 0, tail.stderr
    events = [json.loads(line) for line in tail.stdout.splitlines()]
    assert [event["action"] for event in events] == ["member.create", "api-key.issue"]
    assert events[0]["caller"].endswith("/operator/admin")
    shown = operator("audit", "tail", "-n", "1")
    assert "api-key.issue" in shown.stdout
    assert "bank-audited by admin" in " ".join(shown.stdout.split())

    export = tmp_path / "audit.jsonl"
    assert operator("audit", "export", str(export)).returncode == 0
    assert operator("member", "add", "bank-later").returncode == 0
    before = export.stat().st_size
    assert operator("audit", "export", str(export)).returncode == 0
    assert export.stat().st_size > before
    assert operator("audit", "verify", "--file", str(export)).returncode == 0
    lines = export.read_bytes().splitlines(keepends=True)
    for spoilt, code in (
        (lines[:-1], "AUDIT_EXPORT_UNSIGNED"),
        (lines[:5] + lines[6:], "AUDIT_LOG_FORKED"),
        ([line.replace(b"bank-later", b"bank-other") for line in lines], "AUDIT_LOG_FORKED"),
    ):
        export.write_bytes(b"".join(spoilt))
        refused = operator("audit", "verify", "--file", str(export))
        assert refused.returncode == 1
        assert f"[{code}]" in refused.stderr


def test_the_audit_log_is_followed_to_its_next_key(operator: Run, up: Up, tmp_path: Path) -> None:
    assert operator("audit", "verify").returncode == 0
    memory = json.loads((up.folder / "operator" / "audit.json").read_text())
    former = memory["verifier_key"]
    config = str(up.folder / "keyservice.toml")
    rotated = subprocess.run(
        [command_path("finsecure-keyservice"), "rotate-audit-key", "--config", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    key = rotated.stdout.split()[3]
    tail = operator("audit", "tail", "-n", "1", "--key", former, "--json")
    assert tail.returncode == 0, tail.stderr
    assert json.loads(tail.stdout)["details"] == {"key": key, "former": former}
    export = tmp_path / "audit.jsonl"
    assert operator("audit", "export", str(export), "--key", key).returncode == 0
    for known in (former, key):
        assert operator("audit", "verify", "--key", known).returncode == 0
        checked = operator("audit", "verify", "--file", str(export), "--key", known)
        assert checked.returncode == 0, checked.stderr
    assert operator("audit", "verify", "--file", str(export)).returncode == 0


def test_a_leak_is_answered_by_one_command(operator: Run, tmp_path: Path) -> None:
    assert operator("member", "add", "bank-leaky").returncode == 0
    key = tmp_path / "new.key"
    answer = operator(
        *("member", "leaked", "bank-leaky", "--reason", "key in a mail"),
        *("--key-file", str(key), "--json"),
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["revoked_certificates"] == []
    assert key.read_text().startswith("fs_")
    assert key.read_text().strip() not in answer.stdout + answer.stderr


def test_second_up_changes_nothing_and_stopped_services_are_status_5(up: Up, operator: Run) -> None:
    identity = (up.folder / "operator" / "tls.crt").read_bytes()
    members = operator("member", "list", "--json").stdout
    assert up.stop() == 0
    away = operator("member", "list", timeout=60)
    assert away.returncode == 5
    assert "[SERVICE_UNREACHABLE]" in away.stderr
    up.start()
    assert operator("member", "list", "--json").stdout == members
    assert (up.folder / "operator" / "tls.crt").read_bytes() == identity
    assert not list((up.folder / "keyservice").glob("*.api-key"))


def test_operator_must_enrol_first_and_once(up: Up, finsecure: Run, tmp_path: Path) -> None:
    config = tmp_path / "operator.toml"
    config.write_text(
        (up.folder / "operator.toml").read_text().replace("root.pem", str(up.folder / "root.pem"))
    )
    stranger = finsecure("member", "list", "--config", str(config))
    assert stranger.returncode == 2
    assert "[IDENTITY_MISSING]" in stranger.stderr
    key = tmp_path / "operator.key"
    key.write_text("fs_admin_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_AAAAAAAA\n")
    wrong = finsecure("operator", "enrol", "--config", str(config), "--api-key-file", str(key))
    assert wrong.returncode == 3, wrong.stderr
    assert "fs_admin" not in wrong.stderr
    twice = finsecure(
        "operator", "enrol", "--config", str(up.folder / "operator.toml"),
        "--api-key-file", str(key),
    )  # fmt: skip
    assert twice.returncode == 2
    assert "[IDENTITY_EXISTS]" in twice.stderr


def test_managed_keys_are_made_rotated_taken_out_of_use_and_wrapped(
    operator: Run, tmp_path: Path
) -> None:
    assert operator("keys", "ring", "models").returncode == 0
    made = operator("keys", "create", "models/global", "--rotate-days", "90", "--json")
    assert json.loads(made.stdout)["rotation_period"] == 90 * 86400
    theirs = SoftwareSigner.generate(SignatureAlgorithm.ED25519)
    key_file = tmp_path / "key.der"
    key_file.touch(mode=0o600)
    key_file.write_bytes(theirs.export().expose())
    wrapped = str(tmp_path / "key.wrapped")
    wrap = ("keys", "wrap", "models/global", "--key-file", str(key_file), "--out", wrapped)
    assert "SHA-256" in operator(*wrap).stdout
    assert "[FILE_EXISTS]" in operator(*wrap).stderr
    assert operator("keys", "import", wrapped).returncode == 3  # two security officers do
    assert "[WRAPPED_KEY_MALFORMED]" in operator("keys", "import", str(key_file)).stderr
    printed = operator("keys", "public", "models/global", "--version", "1")
    assert printed.returncode == 0, printed.stderr
    load_pem_public_key(printed.stdout.encode())
    assert operator("keys", "rotate", "models/global").returncode == 0
    reason = ("--version", "1", "--reason", "a drill")
    disabled = operator("keys", "disable", "models/global", *reason)
    assert disabled.stdout.strip().endswith("cryptoKeyVersions/1 is disabled")
    alone = operator("keys", "destroy", "models/global", *reason)
    assert alone.returncode == 3
    nothing = operator("keys", "restore", "models/global", *reason)
    assert "[KEY_STATE]" in nothing.stderr
    versions = json.loads(operator("keys", "list", "models/global", "--json").stdout)
    assert [item["state"] for item in versions][:1] == ["disabled"]
    assert len(versions) == 2
    assert "models/global" in operator("keys", "list").stdout
    assert operator("keys", "list", "models").returncode == 2


def test_the_next_authority_is_prepared_signed_and_installed(
    operator: Run, up: Up, tmp_path: Path
) -> None:
    (present,) = json.loads(operator("ca", "status", "--json").stdout)
    assert present["state"] == "active"
    csr, certificate = tmp_path / "next.csr", tmp_path / "next.pem"
    prepared = operator("ca", "prepare", "--csr", str(csr), "--json")
    assert prepared.returncode == 0, prepared.stderr
    name = json.loads(prepared.stdout)["name"].rpartition("/")[2]
    signed = operator(
        *("ca", "sign", str(csr), "--root", str(up.folder / "root.pem")),
        *("--root-key", str(next(up.folder.rglob("root.key"))), "--out", str(certificate)),
    )
    assert signed.returncode == 0, signed.stderr
    installed = operator("ca", "install", name, "--certificate", str(certificate))
    assert installed.returncode == 0, installed.stderr
    early = operator("ca", "activate", name)
    assert early.returncode == 1
    assert "[AUTHORITY_NOT_PROPAGATED]" in early.stderr
    assert "Nothing waits" in operator("approval", "list").stdout
    assert operator("approval", "approve", "0" * 16).returncode == 3  # no security officer


def test_a_member_is_suspended_and_reactivated(operator: Run) -> None:
    assert operator("member", "add", "bank-away").returncode == 0
    away = operator("member", "suspend", "bank-away", "--reason", "why", "--json")
    assert json.loads(away.stdout)["state"] == "suspended"
    back = operator("member", "reactivate", "bank-away", "--json")
    assert json.loads(back.stdout)["state"] == "invited"
