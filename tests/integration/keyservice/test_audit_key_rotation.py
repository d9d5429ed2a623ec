"""The audit log goes over to another key next to a running service; forged ways are refused."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from finsecure.keyservice.v1 import audit_pb2, audit_pb2_grpc
from finsecure.keyservice.v1 import members_pb2 as members
from finsecure.keyservice.v1 import members_pb2_grpc as members_grpc
from finsecure_cli.following import OperatorLog, export_log, verify_log
from finsecure_crypto.audit_event import Event, seal
from finsecure_crypto.checkpoint import LogSigner, LogVerifier
from finsecure_crypto.errors import IntegrityError, NotFoundError
from finsecure_crypto.log_export import verify_export
from finsecure_crypto.log_keys import ANNOUNCE
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.audit import mirror as mirror_module
from finsecure_keyservice.audit_key_rotation import rotate_audit_key
from finsecure_keyservice.founding import seal_key_of, signed_log_of
from finsecure_keyservice.rewrapping import rotate_key_encryption_key
from finsecure_keyservice.schema import AUDIT
from finsecure_keyservice.state import StateFolder
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.database import open_database
from finsecure_rpc.log_memory import LogMemory, Remembered
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import select, update

from tests.support.keyservice import trail
from tests.support.keyservice_deployment import BANK, LENDING, Deployment, deployed, new_id

T = TypeVar("T")
LIMITS = {"enrolment_calls_per_s": 1000, "member_calls_per_s": 10_000}
DIGEST = bytes(range(32))
THIEF = LogSigner.from_seed("finsecure.test/audit", SecretBytes(b"t" * 32))


def _memory(keyservice: Deployment, name: str = "memory") -> LogMemory:
    return LogMemory(keyservice.folder / name)


def _follower(
    keyservice: Deployment, name: str = "memory", pinned: LogVerifier | None = None
) -> LogFollower:
    return LogFollower(keyservice.operator, _memory(keyservice, name), pinned)


def _known(keyservice: Deployment, name: str = "memory") -> Remembered:
    known = _memory(keyservice, name).load()
    assert known is not None
    return known


async def _rotate(keyservice: Deployment) -> LogVerifier:
    key = await asyncio.to_thread(rotate_audit_key, keyservice.configuration, keyservice.clock())
    return LogVerifier.parse(key)


def _transact(keyservice: Deployment, act: Callable[[SqlConnection], T]) -> T:
    """What somebody does who owns the key service's database."""
    database = open_database(keyservice.configuration.database)
    try:
        return database.run_sync(act)
    finally:
        database.close()


def _signer(keyservice: Deployment) -> LogSigner:
    """The log's present private key, as whoever steals it has it."""
    folder = StateFolder(keyservice.configuration.state_dir)
    vault, _ = folder.open(keyservice.configuration.protected_by)
    return _transact(keyservice, signed_log_of(keyservice.configuration, vault).keys.signer)


def _publish(keyservice: Deployment) -> None:
    """What a registry of public keys does within its own transaction."""
    _transact(
        keyservice,
        lambda connection: trail(connection).record("key.publish", "keys/1", published=DIGEST),
    )


async def test_followers_go_over_to_the_new_key_next_to_a_running_service(
    keyservice: Deployment,
) -> None:
    first = LogVerifier.parse(keyservice.founded.log_key)
    before = await _follower(keyservice).advance()
    await _follower(keyservice, "sleeper").advance()
    second = await _rotate(keyservice)
    after = await _follower(keyservice).advance()
    assert after.size == before.size + 1
    assert _known(keyservice).verifier == second
    assert _known(keyservice).former == {first}
    await keyservice.create(BANK)
    third = await _rotate(keyservice)
    await keyservice.create(f"{LENDING}/clients/bank-2")
    # One who looks after two rotations, one who was given the very first key, one who comes new.
    for name, pinned in (("sleeper", None), ("pinned", first), ("new", None), ("late", third)):
        newest = await _follower(keyservice, name, pinned).advance()
        assert newest.size == after.size + 5
        assert _known(keyservice, name).verifier == third
    # A key that handed over long ago stays good for who pinned it, whatever is remembered.
    for pinned in (first, second, third):
        assert await _follower(keyservice, "new", pinned).advance() == newest
    with pytest.raises(IntegrityError, match="AUDIT_KEY_UNKNOWN"):
        await _follower(keyservice, "new", THIEF.verifier).advance()


async def test_a_public_key_is_proved_to_who_has_not_heard_of_the_new_key(
    keyservice: Deployment,
) -> None:
    await _follower(keyservice).advance()
    await _rotate(keyservice)
    _publish(keyservice)
    event = await _follower(keyservice).verify_publication("keys/1", DIGEST)
    assert event.subject == "keys/1"


async def test_the_former_key_is_forgotten_and_old_and_new_stay_readable(
    keyservice: Deployment,
) -> None:
    configuration = keyservice.configuration
    member = members.Member(name=BANK)
    stub = keyservice.operator.stub(members_grpc.MemberServiceStub)
    await keyservice.operator.call(
        stub.CreateMember, members.CreateMemberRequest(member=member, request_id=new_id())
    )
    await keyservice.operator.call(
        stub.RevokeMember,
        members.RevokeMemberRequest(name=BANK, reason="left in anger", request_id=new_id()),
    )
    await _rotate(keyservice)
    keys = _transact(
        keyservice,
        lambda connection: connection.execute(
            select(AUDIT.keys).order_by(AUDIT.keys.c.number)
        ).all(),
    )
    assert [row.handle is None for row in keys] == [True, False]
    await asyncio.to_thread(rotate_key_encryption_key, configuration, keyservice.clock())
    await keyservice.stop()
    await keyservice.restart()
    _, material = StateFolder(configuration.state_dir).open(configuration.protected_by)
    sealed = seal(seal_key_of(configuration, material), "reason", "left in anger")
    follower = _follower(keyservice)
    await follower.advance()
    events = [Event.parse(leaf) async for leaf in follower.events()]
    assert sealed in [event.details.get("reason") for event in events]
    announced = [event for event in events if event.action == ANNOUNCE]
    assert [event.caller for event in announced] == ["local:init", "local:rotate-audit-key"]


@pytest.mark.parametrize("running", [True, False])
async def test_the_second_copy_goes_on_over_a_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    monkeypatch.setattr(mirror_module, "_POLL_S", 0.01)
    copy = tmp_path / "audit.jsonl"
    async with deployed(tmp_path, limits=LIMITS, audit_file=copy) as keyservice:
        first = LogVerifier.parse(keyservice.founded.log_key)
        if not running:
            await keyservice.stop()
        second = await _rotate(keyservice)
        third = await _rotate(keyservice)
        if not running:
            await keyservice.restart()
        await keyservice.create(BANK)
        newest = await _follower(keyservice).advance()
        await keyservice.stop()
        lines = copy.read_bytes().splitlines()
        for key in (first, second, third):
            assert verify_export(lines, key, newest) == newest
        # A crash tore the handover off; it is written again.
        torn = next(at for at, line in enumerate(lines) if second.serialise().encode() in line)
        copy.write_bytes(b"\n".join(lines[: torn + 1]) + b'\n{"checkp')
        await keyservice.start()
        await keyservice.stop()
        assert copy.read_bytes().splitlines()[: torn + 2] == lines[: torn + 2]
        assert verify_export(copy.read_bytes().splitlines(), first, newest).size >= newest.size


async def test_an_export_and_the_whole_verification_go_on_over_a_rotation(
    keyservice: Deployment,
) -> None:
    first = LogVerifier.parse(keyservice.founded.log_key)
    log = OperatorLog(_follower(keyservice), _memory(keyservice))
    output = keyservice.folder / "export.jsonl"
    await export_log(log, output, follow=False)
    second = await _rotate(keyservice)
    # Right behind the handover, then further, then all at once into a new file.
    for target in (output, output, keyservice.folder / "other.jsonl"):
        exported = await export_log(log, target, follow=False)
        assert await verify_log(log) == exported
        for key in (first, second):
            assert verify_export(target.read_bytes().splitlines(), key) == exported
        await keyservice.create(f"{LENDING}/clients/bank-{exported.size}")
    await _rotate(keyservice)
    assert (await export_log(log, output, follow=False)).size == (await verify_log(log)).size


async def test_a_log_restored_from_before_the_rotation_is_caught(keyservice: Deployment) -> None:
    await keyservice.stop()
    snapshot = keyservice.snapshot()
    await _rotate(keyservice)
    await keyservice.restart()
    known = await _follower(keyservice).advance()
    late = await _follower(keyservice, "late").advance()
    assert late == known
    await _rotate(keyservice)
    await _follower(keyservice).advance()
    await keyservice.stop()
    keyservice.restore(snapshot)
    await keyservice.restart()
    # Who never saw the first key cannot tell whose it is; nobody takes it.
    with pytest.raises(IntegrityError, match="AUDIT_KEY_UNKNOWN"):
        await _follower(keyservice, "late").advance()
    with pytest.raises(IntegrityError, match="AUDIT_KEY_UNKNOWN"):
        await _follower(keyservice).advance()


async def test_who_saw_the_rotation_names_the_former_key_that_signs_again(
    keyservice: Deployment,
) -> None:
    await keyservice.stop()
    snapshot = keyservice.snapshot()
    await keyservice.restart()
    await _follower(keyservice).advance()
    await _rotate(keyservice)
    remembered = await _follower(keyservice).advance()
    await keyservice.stop()
    keyservice.restore(snapshot)
    await keyservice.restart()
    for number in range(3):  # growing past the remembered size does not help
        with pytest.raises(IntegrityError, match="AUDIT_KEY_RETIRED"):
            await _follower(keyservice).advance()
        await keyservice.create(f"{LENDING}/clients/bank-{number}")
    assert _known(keyservice).checkpoint == remembered


async def test_what_a_stolen_former_key_signed_convicts_it_later(keyservice: Deployment) -> None:
    await _follower(keyservice).advance()
    stolen = _signer(keyservice)
    await _rotate(keyservice)
    # The thief showed this follower a longer log, signed with the key that it knows.
    forged = stolen.sign(1000, bytes(32))
    _memory(keyservice).save(Remembered(stolen.verifier, forged))
    with pytest.raises(IntegrityError, match="AUDIT_KEY_RETIRED"):
        await _follower(keyservice).advance()


async def test_a_new_key_without_an_announcement_is_refused(keyservice: Deployment) -> None:
    await _follower(keyservice).advance()
    folder = StateFolder(keyservice.configuration.state_dir)
    vault, _ = folder.open(keyservice.configuration.protected_by)
    keys = signed_log_of(keyservice.configuration, vault).keys
    stub = keyservice.operator.stub(audit_pb2_grpc.AuditServiceStub)
    with pytest.raises(NotFoundError, match="AUDIT_HANDOVER_NOT_FOUND"):
        await keyservice.operator.call(
            stub.GetKeyHandover,
            audit_pb2.GetKeyHandoverRequest(verifier_key=keyservice.founded.log_key),
        )
    _transact(keyservice, lambda connection: keys._make(connection, 1))
    with pytest.raises(IntegrityError, match="AUDIT_KEY_UNKNOWN") as refused:
        await _follower(keyservice).advance()
    assert "ask the operator on a trusted way" in str(refused.value)
    _publish(keyservice)
    with pytest.raises(IntegrityError, match="AUDIT_KEY_UNKNOWN"):
        await _follower(keyservice).verify_publication("keys/1", DIGEST)


@pytest.mark.parametrize(
    ("forgery", "code"),
    [
        ("signed by the new key alone", "CHECKPOINT_UNTRUSTED"),
        ("signed by a thief", "CHECKPOINT_UNTRUSTED"),
        ("not accepted by the new key", "CHECKPOINT_UNTRUSTED"),
        ("of a tree without the announcement", "AUDIT_KEY_CHANGE_INVALID"),
        ("of a tree that this log never had", "AUDIT_PROOF_INVALID"),
    ],
)
async def test_a_forged_handover_is_refused(
    keyservice: Deployment, forgery: str, code: str
) -> None:
    remembered = await _follower(keyservice).advance()
    former = _signer(keyservice)
    await _rotate(keyservice)
    new = _signer(keyservice)

    def forge(connection: SqlConnection) -> None:
        edge = signed_log_of(keyservice.configuration, vault).log.edge(connection)
        size, notes = (
            edge.size,
            {
                "signed by the new key alone": new.sign(edge.size, edge.root),
                "signed by a thief": THIEF.sign(edge.size, edge.root, new),
                "not accepted by the new key": former.sign(edge.size, edge.root),
                "of a tree without the announcement": former.sign(
                    remembered.size, remembered.root, new
                ),
                "of a tree that this log never had": former.sign(edge.size, bytes(32), new),
            },
        )
        if forgery == "of a tree without the announcement":
            size = remembered.size
        connection.execute(
            update(AUDIT.keys)
            .where(AUDIT.keys.c.number == 0)
            .values(handover_size=size, handover_note=notes[forgery])
        )

    folder = StateFolder(keyservice.configuration.state_dir)
    vault, _ = folder.open(keyservice.configuration.protected_by)
    _transact(keyservice, forge)
    with pytest.raises(IntegrityError, match=code):
        await _follower(keyservice).advance()
    assert _known(keyservice).checkpoint == remembered
    assert _known(keyservice).verifier == former.verifier


async def test_a_rotation_that_fails_changes_nothing(
    keyservice: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await _follower(keyservice).advance()

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(LogSigner, "sign", fail)
        with pytest.raises(OSError, match="No space"):
            await _rotate(keyservice)
    assert await _follower(keyservice).advance() == before
    assert _known(keyservice).verifier == LogVerifier.parse(keyservice.founded.log_key)
    await _rotate(keyservice)
    assert (await _follower(keyservice).advance()).size == before.size + 1
