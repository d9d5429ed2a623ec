"""The audit log over the wire: followed by members, mirrored in a file, and caught when it lies."""

import asyncio
import json
from pathlib import Path

import pytest
from finsecure.keyservice.v1 import audit_pb2, audit_pb2_grpc
from finsecure.keyservice.v1 import members_pb2 as members
from finsecure.keyservice.v1 import members_pb2_grpc as members_grpc
from finsecure_crypto.audit_event import Event
from finsecure_crypto.checkpoint import LogSigner, LogVerifier
from finsecure_crypto.errors import (
    IntegrityError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    StateError,
    UnavailableError,
)
from finsecure_crypto.log_export import note_of, verify_export
from finsecure_crypto.log_verification import LogReader, verify_event
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice import serving
from finsecure_keyservice.audit import mirror as mirror_module
from finsecure_keyservice.schema import AUDIT
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.connection import Connection
from finsecure_rpc.database import open_database
from finsecure_rpc.log_memory import LogMemory, Remembered
from finsecure_rpc.log_watch import LogWatch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import select, update

from tests.support.keyservice import trail
from tests.support.keyservice_deployment import BANK, LENDING, Deployment, deployed, new_id

LIMITS = {"enrolment_calls_per_s": 1000, "member_calls_per_s": 10_000}
DIGEST = bytes(range(32))


def _follower(keyservice: Deployment, connection: Connection, name: str = "memory") -> LogFollower:
    return LogFollower(connection, LogMemory(keyservice.folder / name))


def _publish(keyservice: Deployment, subject: str, digest: bytes) -> None:
    """What a registry of public keys does within its own transaction."""
    database = open_database(keyservice.configuration.database)
    database.run_sync(
        lambda connection: trail(connection).record("key.publish", subject, published=digest)
    )
    database.close()


async def _leaves(follower: LogFollower, start: int = 0) -> list[bytes]:
    return [leaf async for leaf in follower.events(start)]


async def test_who_called_from_which_certificate_is_in_every_event(
    keyservice: Deployment,
) -> None:
    request = members.CreateMemberRequest(member=members.Member(name=BANK), request_id=new_id())
    stub = keyservice.operator.stub(members_grpc.MemberServiceStub)
    await keyservice.operator.call(stub.CreateMember, request)
    again = await keyservice.operator.call(stub.CreateMember, request)
    assert again.api_key == ""
    with pytest.raises(StateError, match="LAST_OPERATOR"):
        await keyservice.operator.call(
            stub.RevokeMember,
            members.RevokeMemberRequest(
                name="operators/alice", reason="a private reason", request_id=new_id()
            ),
        )
    leaves = await _leaves(_follower(keyservice, keyservice.operator))
    events = [Event.parse(leaf) for leaf in leaves]
    made = [event for event in events if event.subject == BANK]
    # The repeated call decided nothing, so it is not there again.
    assert [event.action for event in made] == ["member.create", "api-key.issue"]
    assert {event.request for event in made} == {request.request_id}
    assert {event.caller for event in made} == {"spiffe://finsecure.test/operator/alice"}
    assert f"certificates/{made[0].certificate}" in {event.subject for event in events}
    refused = events[-1]
    assert (refused.action, refused.subject) == ("call.refuse", "operators/alice")
    assert refused.details["reason"] == "LAST_OPERATOR"
    enrolled = next(event for event in events if event.action == "member.enrol")
    assert (enrolled.caller, enrolled.certificate) == ("", "")
    text = b"\n".join(leaves)
    assert b"private reason" not in text
    assert b"127.0.0.1" not in text


async def test_callers_who_are_not_let_in_are_in_the_log(keyservice: Deployment) -> None:
    bank = await keyservice.member(BANK)
    stub = bank.stub(members_grpc.MemberServiceStub)
    for _ in range(100):
        with pytest.raises(PermissionDeniedError):
            await bank.call(stub.ListMembers, members.ListMembersRequest(parent=LENDING))
    await keyservice.stop()
    await keyservice.restart()
    leaves = await _leaves(_follower(keyservice, keyservice.operator))
    refused = [event for event in map(Event.parse, leaves) if event.action == "call.refuse"]
    assert 60 <= len(refused) <= 100  # all of a burst, then one a second
    assert {event.caller for event in refused} == {"spiffe://lending.finsecure.test/client/bank-1"}
    assert refused[0].details["method"] == "ListMembers"
    assert refused[0].details["reason"] == "ROLE_NOT_ALLOWED"


async def test_a_follower_sees_the_log_grow_and_proves_events(keyservice: Deployment) -> None:
    bank = await keyservice.member(BANK)
    follower = _follower(keyservice, bank)
    first = await follower.advance()
    for number in range(5):
        await keyservice.create(f"{LENDING}/clients/bank-x{number}")
    second = await follower.advance()
    assert second.size == first.size + 10
    assert await follower.advance() == second
    stub = bank.stub(audit_pb2_grpc.AuditServiceStub)
    with pytest.raises(PermissionDeniedError):
        await _leaves(follower)
    leaves = await _leaves(_follower(keyservice, keyservice.operator, "operator"))
    for index in (0, 3, second.size - 1):
        proof = await bank.call(
            stub.GetInclusionProof,
            audit_pb2.GetInclusionProofRequest(index=index, tree_size=second.size),
        )
        event = verify_event(second, index, leaves[index], list(proof.hashes))
        assert event.index == index
        with pytest.raises(IntegrityError, match="AUDIT_PROOF_INVALID"):
            verify_event(second, index, leaves[index] + b" ", list(proof.hashes))
    with pytest.raises(InvalidArgumentError, match="TREE_SIZE"):
        await bank.call(
            stub.GetConsistencyProof,
            audit_pb2.GetConsistencyProofRequest(first_size=1, second_size=2**40),
        )
    with pytest.raises(InvalidArgumentError, match="LEAF_INDEX"):
        await bank.call(
            stub.GetInclusionProof, audit_pb2.GetInclusionProofRequest(index=9, tree_size=9)
        )


async def test_members_prove_that_a_public_key_is_in_the_log(keyservice: Deployment) -> None:
    subject = f"{LENDING}/encryptionKeys/1"
    _publish(keyservice, subject, DIGEST)
    follower = _follower(keyservice, await keyservice.member(BANK))
    event = await follower.verify_publication(subject, DIGEST)
    assert (event.action, event.subject) == ("key.publish", subject)
    for other, digest in ((subject, bytes(32)), (f"{subject}0", DIGEST)):
        with pytest.raises(NotFoundError, match="PUBLICATION_NOT_FOUND"):
            await follower.verify_publication(other, digest)


async def test_events_are_watched_with_checkpoints_behind_them(keyservice: Deployment) -> None:
    follower = _follower(keyservice, keyservice.operator)
    await follower.advance()
    known = LogMemory(keyservice.folder / "memory").load()
    assert known is not None
    reader = LogReader()
    watch = follower.watch(0)
    leaves, note = await anext(watch)
    for leaf in leaves:
        reader.take(leaf)
    reader.check(known.verifier.open(note))
    await keyservice.create(BANK)
    leaves, note = await anext(watch)
    assert [Event.parse(leaf).subject for leaf in leaves] == [BANK, BANK]
    for leaf in leaves:
        reader.take(leaf)
    reader.check(known.verifier.open(note))
    await watch.aclose()


async def test_a_log_restored_from_a_snapshot_is_caught(keyservice: Deployment) -> None:
    follower = _follower(keyservice, keyservice.operator)
    await keyservice.stop()
    snapshot = keyservice.snapshot()
    await keyservice.restart()
    follower = _follower(keyservice, keyservice.operator)
    await keyservice.create(BANK)
    remembered = await follower.advance()
    await keyservice.stop()
    keyservice.restore(snapshot)
    await keyservice.restart()
    follower = _follower(keyservice, keyservice.operator)
    with pytest.raises(IntegrityError, match="AUDIT_LOG_ROLLED_BACK"):
        await follower.advance()
    # Growing past the remembered size does not help: the history is another one now.
    for number in range(2):
        await keyservice.create(f"{LENDING}/clients/bank-y{number}")
    with pytest.raises(IntegrityError, match="AUDIT_LOG_FORKED"):
        await follower.advance()
    known = LogMemory(keyservice.folder / "memory").load()
    assert known is not None
    assert known.checkpoint == remembered


async def test_a_member_who_watches_stops_trusting_a_log_that_was_rolled_back(
    keyservice: Deployment,
) -> None:
    await keyservice.stop()
    snapshot = keyservice.snapshot()
    await keyservice.restart()
    await keyservice.create(BANK)
    await _follower(keyservice, keyservice.operator).advance()
    await keyservice.stop()
    keyservice.restore(snapshot)
    await keyservice.restart()
    async with LogWatch(_follower(keyservice, keyservice.operator), 0.05) as watch:
        watch.check()
        for _ in range(6000):
            if _failed(watch):
                break
            await asyncio.sleep(0.01)
        with pytest.raises(IntegrityError, match="AUDIT_LOG_ROLLED_BACK"):
            watch.check()


def _failed(watch: LogWatch) -> bool:
    try:
        watch.check()
    except IntegrityError:
        return True
    return False


async def test_the_log_given_at_the_foundation_is_the_one_that_signs(
    keyservice: Deployment,
) -> None:
    key = LogVerifier.parse(keyservice.founded.log_key)
    memory = LogMemory(keyservice.folder / "memory")
    checkpoint = await LogFollower(keyservice.operator, memory, key).advance()
    assert checkpoint.origin == "finsecure.test/audit"


async def test_another_key_of_the_log_is_refused(keyservice: Deployment) -> None:
    stranger = LogSigner.from_seed("finsecure.test/audit", SecretBytes(b"x" * 32)).verifier
    follower = LogFollower(keyservice.operator, LogMemory(keyservice.folder / "memory"), stranger)
    with pytest.raises(IntegrityError, match="AUDIT_KEY_UNKNOWN"):
        await follower.advance()
    memory = LogMemory(keyservice.folder / "memory")
    memory.save(Remembered(stranger))
    with pytest.raises(IntegrityError, match="AUDIT_KEY_UNKNOWN"):
        await LogFollower(keyservice.operator, memory).advance()


async def test_the_second_copy_follows_and_convicts_the_database(
    tmp_path: Path, database: str
) -> None:
    copy = tmp_path / "elsewhere" / "audit.jsonl"
    copy.parent.mkdir()
    async with deployed(tmp_path, limits=LIMITS, audit_file=copy, database=database) as keyservice:
        await keyservice.create(BANK)
        await keyservice.stop()
        lines = copy.read_bytes().splitlines()
        snapshot = keyservice.snapshot()
        await keyservice.restart()
        checkpoint = await _follower(keyservice, keyservice.operator).advance()
        known = LogMemory(tmp_path / "memory").load()
        assert known is not None
        assert verify_export(lines, known.verifier) == checkpoint
        await keyservice.create(f"{LENDING}/clients/bank-2")
        await keyservice.stop()
        # A line that a crash tore is cut off and written again.
        with copy.open("ab") as file:
            file.write(b'{"action":"member.cre')
        await keyservice.start()
        await keyservice.stop()
        lines = copy.read_bytes().splitlines()
        newest = verify_export(lines, known.verifier, checkpoint)
        assert newest.size == checkpoint.size + 2
        with pytest.raises(IntegrityError, match="AUDIT_EXPORT_UNSIGNED"):
            verify_export(lines[:-1], known.verifier, newest)
        with pytest.raises(IntegrityError, match="AUDIT_LOG_ROLLED_BACK"):
            verify_export(lines[:-3], known.verifier, newest)
        changed = [line.replace(b"bank-2", b"bank-3") for line in lines]
        with pytest.raises(IntegrityError, match="AUDIT_LOG_FORKED"):
            verify_export(changed, known.verifier)
        keyservice.restore(snapshot)
        with pytest.raises(IntegrityError, match="AUDIT_LOG_ROLLED_BACK"):
            await keyservice.start()


async def test_without_its_second_copy_the_service_stops_deciding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "_POLL_S", 0.01)
    copy = tmp_path / "audit.jsonl"
    async with deployed(tmp_path, limits=LIMITS, audit_file=copy) as keyservice:
        await keyservice.create(BANK)

        def full(file: object, leaves: object, note: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(mirror_module, "MOST_BEHIND", 4)
        with monkeypatch.context() as broken:
            broken.setattr(mirror_module.LogFile, "append", full)
            outcomes = [
                await _outcome(keyservice, f"{LENDING}/clients/bank-z{number}")
                for number in range(10)
            ]
            assert outcomes[-1] == "AUDIT_MIRROR_BEHIND"
        async with asyncio.timeout(60):
            while await _outcome(keyservice, f"{LENDING}/clients/bank-late"):
                pass


async def test_the_second_copy_has_no_gap_after_an_event_that_it_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "_POLL_S", 0.01)
    copy, refused = tmp_path / "audit.jsonl", asyncio.Event()
    append = mirror_module.LogFile.append

    def full(file: object, leaves: object, note: object) -> None:
        raise OSError(28, "No space left on device")

    def altered(file: mirror_module.LogFile, leaves: list[bytes], note: str) -> None:
        if not refused.is_set():
            loop.call_soon_threadsafe(refused.set)
            leaves = [leaves[0], b"{}", *leaves[2:]]
        append(file, leaves, note)

    loop = asyncio.get_running_loop()
    async with deployed(tmp_path, limits=LIMITS, audit_file=copy) as keyservice:
        monkeypatch.setattr(mirror_module.LogFile, "append", full)
        for number in range(3):
            await keyservice.create(f"{LENDING}/clients/bank-z{number}")
        monkeypatch.setattr(mirror_module.LogFile, "append", altered)
        async with asyncio.timeout(60):
            await refused.wait()
        monkeypatch.setattr(mirror_module.LogFile, "append", append)
        await keyservice.create(BANK)
        whole = len(await _leaves(_follower(keyservice, keyservice.operator)))
    lines = copy.read_bytes().splitlines()
    events = [json.loads(line)["index"] for line in lines if note_of(line) is None]
    assert events == list(range(len(events)))
    assert len(events) >= whole


async def _outcome(keyservice: Deployment, name: str) -> str:
    try:
        await keyservice.create(name)
    except UnavailableError as error:
        return error.code
    return ""


async def test_a_changed_event_in_the_database_contradicts_its_checkpoint(
    keyservice: Deployment,
) -> None:
    await keyservice.create(BANK)
    third = AUDIT.events.c.position == 2

    def change(connection: SqlConnection) -> None:
        leaf = connection.execute(select(AUDIT.events.c.leaf).where(third)).scalar_one()
        event = json.loads(leaf) | {"subject": "operators/mallory"}
        changed = json.dumps(event, sort_keys=True, separators=(",", ":")).encode()
        connection.execute(update(AUDIT.events).where(third).values(leaf=changed))

    database = open_database(keyservice.configuration.database)
    database.run_sync(change)
    database.close()
    follower = _follower(keyservice, keyservice.operator)
    checkpoint = await follower.advance()
    reader = LogReader()
    for leaf in await _leaves(follower):
        reader.take(leaf)
    with pytest.raises(IntegrityError, match="AUDIT_LOG_FORKED"):
        reader.check(checkpoint)


async def test_health_says_no_while_the_log_cannot_be_written(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_TICK_S", 0.05)
    async with deployed(tmp_path, limits=LIMITS, database=database) as keyservice:
        await _until(keyservice, health_pb2.HealthCheckResponse.SERVING)
        whole = _swap_edge(keyservice, b"damaged")
        with pytest.raises(UnavailableError, match="AUDIT_UNAVAILABLE"):
            await keyservice.create(BANK)
        await _until(keyservice, health_pb2.HealthCheckResponse.NOT_SERVING)
        _swap_edge(keyservice, whole)
        await _until(keyservice, health_pb2.HealthCheckResponse.SERVING)
        await keyservice.create(BANK)


def _swap_edge(keyservice: Deployment, edge: bytes) -> bytes:
    def swap(connection: SqlConnection) -> bytes:
        before: bytes = connection.execute(select(AUDIT.head.c.edge)).scalar_one()
        connection.execute(update(AUDIT.head).values(edge=edge))
        return before

    other = open_database(keyservice.configuration.database)
    before = other.run_sync(swap)
    other.close()
    return before


async def _until(keyservice: Deployment, status: int) -> None:
    async with open_anonymous_channel(keyservice.enrol_address, keyservice.root_pem) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for _ in range(3000):
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
            if answer.status == status:
                return
            await asyncio.sleep(0.01)
    pytest.fail("health never said so")
