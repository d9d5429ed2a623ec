import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from finsecure.aggregation.v1 import models_pb2, participation_pb2, sums_pb2, tasks_pb2
from finsecure.keyservice.v1 import (
    audit_pb2,
    certificates_pb2,
    encryption_keys_pb2,
    keys_pb2,
    members_pb2,
)
from finsecure_client import egress, egress_fields
from finsecure_client.egress import Manifest
from finsecure_client.report import Report
from finsecure_crypto.errors import ConfigurationError, IntegrityError, InternalError
from google.protobuf.descriptor import Descriptor, FieldDescriptor

# What the client calls besides all of ParticipationService and AuditedSumService.
CALLED = {
    tasks_pb2: ["GetTask", "ListTasks"],
    models_pb2: ["GetModel", "DownloadModel"],
    certificates_pb2: ["Enrol", "Join", "RenewCertificates", "WatchRevocationList"],
    encryption_keys_pb2: ["DownloadEncryptionKey"],
    audit_pb2: ["GetCheckpoint", "GetConsistencyProof", "ProvePublication", "GetKeyHandover"],
    keys_pb2: ["DownloadPublicKey"],
    members_pb2: ["GetFederation"],
}
ROUND = "federations/lending/tasks/credit/rounds/1-1"


def requests() -> list[Descriptor]:
    methods = list(participation_pb2.DESCRIPTOR.services_by_name["ParticipationService"].methods)
    methods += sums_pb2.DESCRIPTOR.services_by_name["AuditedSumService"].methods
    for module, names in CALLED.items():
        for service in module.DESCRIPTOR.services_by_name.values():
            methods += [method for method in service.methods if method.name in names]
    return [method.input_type for method in methods]


def scalars(message: Descriptor) -> list[tuple[str, str]]:
    found = []
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            found += scalars(field.message_type)
        else:
            found.append((message.full_name, field.name))
    return found


@pytest.mark.parametrize("message", requests(), ids=lambda message: message.name)
def test_every_field_that_can_leave_is_described(message: Descriptor) -> None:
    for name, field in scalars(message):
        assert egress_fields.KINDS[name][field]


def test_nothing_else_is_described() -> None:
    sent = {pair for message in requests() for pair in scalars(message)}
    described = {(name, field) for name, fields in egress_fields.KINDS.items() for field in fields}
    assert described == sent


def reveal() -> participation_pb2.RevealSharesRequest:
    return participation_pb2.RevealSharesRequest(
        round=ROUND,
        self_mask_shares=b"s" * 72,
        unreadable=b"\x80",
    )


def test_fields_are_walked_with_path_length_and_digest() -> None:
    found = {field.path: field for field in egress_fields.fields(reveal())}
    # What is empty does not travel: protobuf leaves it out.
    assert sorted(found) == ["round", "self_mask_shares", "unreadable"]
    shares = found["self_mask_shares"]
    assert shares.kind == "shares of other clients' secrets"
    assert (shares.length, shares.sha256) == (72, hashlib.sha256(b"s" * 72).hexdigest())
    assert found["unreadable"].sha256 == hashlib.sha256(b"\x80").hexdigest()


def test_lists_nested_messages_and_numbers_are_walked() -> None:
    request = participation_pb2.WatchRequest(tasks=["t/1", "t/2"])
    assert [field.path for field in egress_fields.fields(request)] == ["tasks[0]", "tasks[1]"]
    chunk = participation_pb2.SubmitInputRequest(
        chunk=models_pb2.Chunk(offset=7, content=b"c", crc32=0)
    )
    found = {field.path: field for field in egress_fields.fields(chunk)}
    assert sorted(found) == ["chunk.content", "chunk.offset"]
    assert found["chunk.offset"].sha256 == hashlib.sha256(b"7").hexdigest()


def test_what_is_not_described_is_not_sent(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "egress.jsonl")
    send = manifest.recorder("aggregator")
    with pytest.raises(InternalError) as caught:
        send("/x/Y", tasks_pb2.CancelTaskRequest(name="t"))
    assert caught.value.code == "EGRESS_UNDESCRIBED"
    assert (tmp_path / "egress.jsonl").read_text() == ""
    manifest.close()


def test_lines_hold_digests_and_no_content(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "egress.jsonl"
    manifest = Manifest(path, now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    secret = "fs_bank-a_0123456789abcdef"
    manifest.recorder("keyservice")(
        "/finsecure.keyservice.v1.EnrolmentService/Enrol",
        certificates_pb2.EnrolRequest(api_key=secret, tls_csr=b"t", signing_csr=b"s"),
    )
    manifest.close()
    assert secret not in path.read_text()
    first = json.loads(path.read_text().splitlines()[0])
    assert first == {
        "time": "2026-01-02T03:04:05.000+00:00",
        "destination": "keyservice",
        "method": "/finsecure.keyservice.v1.EnrolmentService/Enrol",
        "round": "",
        "path": "api_key",
        "kind": "API key",
        "length": len(secret),
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
    }
    assert path.stat().st_mode & 0o007 == 0


def test_chunks_belong_to_the_round_of_their_header(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "egress.jsonl")
    send = manifest.recorder("aggregator")
    request = participation_pb2.SubmitInputRequest
    for name in (ROUND, f"{ROUND}-other"):
        header = participation_pb2.InputHeader(round=name, size_bytes=8)
        send("/S/SubmitInput", request(header=header))
        send("/S/SubmitInput", request(chunk=models_pb2.Chunk(content=b"12345678")))
    manifest.close()
    rounds = [entry.round for entry in egress.read(tmp_path / "egress.jsonl")]
    assert rounds == [ROUND] * 3 + [f"{ROUND}-other"] * 3


def test_full_files_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "egress.jsonl"
    manifest = Manifest(path, rotate_bytes=1000)
    send = manifest.recorder("aggregator")
    for number in range(50):
        send("/S/DeclineRound", participation_pb2.DeclineRoundRequest(round=f"r{number}"))
    manifest.close()
    parts = sorted(tmp_path.glob("egress.jsonl*"))
    assert len(parts) > 5
    assert all(part.stat().st_size < 1300 for part in parts)
    assert [entry.round for entry in egress.read(path)] == [f"r{number}" for number in range(50)]


def test_appends_after_a_restart_and_cuts_a_partial_line(tmp_path: Path) -> None:
    path = tmp_path / "egress.jsonl"
    for name in ("first", "second"):
        manifest = Manifest(path)
        manifest.recorder("a")("/S/D", participation_pb2.DeclineRoundRequest(round=name))
        manifest.close()
        with path.open("a") as stream:
            stream.write('{"time":"cut o')
    assert [entry.round for entry in egress.read(path)] == ["first", "second"]


def test_damage_is_said(tmp_path: Path) -> None:
    path = tmp_path / "egress.jsonl"
    path.write_text('{"time":"x"}\n')
    with pytest.raises(IntegrityError) as caught:
        list(egress.read(path))
    assert caught.value.code == "EGRESS_MANIFEST_DAMAGED"
    assert list(egress.read(tmp_path / "absent.jsonl")) == []


def test_no_record_no_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError):
        Manifest(tmp_path / "file" / "egress.jsonl")
    manifest = Manifest(tmp_path / "egress.jsonl")
    manifest.close()
    with pytest.raises(InternalError) as caught:
        manifest.recorder("a")("/S/D", participation_pb2.DeclineRoundRequest(round="r"))
    assert caught.value.code == "EGRESS_NOT_RECORDED"


def test_report_sums_by_kind_and_round(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "egress.jsonl")
    send = manifest.recorder("aggregator")
    send("/P/RevealShares", reveal())
    send("/P/DeclineRound", participation_pb2.DeclineRoundRequest(round="other", reason="NO"))
    manifest.close()
    entries = list(egress.read(tmp_path / "egress.jsonl"))
    for name in (ROUND, "1-1", "credit/rounds/1-1"):
        report = Report.of(entries, name)
        totals = {total.kind: (total.fields, total.bytes) for total in report.totals}
        assert totals == {
            "round name": (1, len(ROUND)),
            "shares of other clients' secrets": (1, 72),
            "whose shares were unreadable": (1, 1),
        }
    assert Report.of(entries, "-1").totals == ()
    whole = Report.of(entries).as_dict()
    assert whole["fields"] == 5
    assert Report.of(entries).table().row_count == len(Report.of(entries).totals) + 1


def test_full_disk_stops_messages() -> None:
    manifest = Manifest(Path("/dev/full"))
    with pytest.raises(InternalError) as caught:
        manifest.recorder("a")("/S/D", participation_pb2.DeclineRoundRequest(round="r"))
    assert caught.value.code == "EGRESS_NOT_RECORDED"
    with pytest.raises(InternalError):
        manifest.close()
    manifest.close()
