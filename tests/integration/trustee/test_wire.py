"""Trustees over gRPC: the aggregator's conversation, hostile streams, roles, three trustees."""

import hashlib
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from finsecure.keyservice.v1 import audit_pb2 as audit
from finsecure.keyservice.v1 import audit_pb2_grpc as audit_grpc
from finsecure.keyservice.v1 import trustee_pb2 as wire
from finsecure.keyservice.v1 import trustee_pb2_grpc as wire_grpc
from finsecure_crypto import signing
from finsecure_crypto.certificates import Role, verify_member
from finsecure_crypto.errors import (
    FinSecureError,
    IntegrityError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolViolationError,
)
from finsecure_crypto.homomorphic.decryption import partial_decryption
from finsecure_rpc.audit import LogFollower, trustee_log
from finsecure_rpc.connection import Connection
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.log_memory import LogMemory
from finsecure_rpc.policy import MEMBERS, READERS
from finsecure_rpc.status import from_wire

from tests.support.pki import TestAuthority, utc_now
from tests.support.trustee_wire import header, manifest
from tests.support.trustees import (
    LAYOUT,
    OPERATOR,
    Bank,
    Federation,
    Trustee,
    contributed,
    key,
    make_trustee,
    served,
)


@pytest.fixture(scope="module")
def federation() -> Federation:
    return Federation(TestAuthority())


def chunks(stream: bytes, size: int = 400) -> Iterator[wire.PartiallyDecryptRequest]:
    for offset in range(0, len(stream), size):
        content = stream[offset : offset + size]
        yield wire.PartiallyDecryptRequest(
            chunk=wire.CiphertextChunk(offset=offset, content=content)
        )


def opening(bank: Bank) -> list[wire.PartiallyDecryptRequest]:
    return [
        wire.PartiallyDecryptRequest(header=header(bank)),
        wire.PartiallyDecryptRequest(manifest=manifest(bank)),
    ]


class Aggregator:
    """The other end of the conversation, as the proto describes it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.uploads = 0

    async def ask(self, bank: Bank) -> tuple[wire.PartialDecryption, bytes]:
        stub = self.connection.stub(wire_grpc.TrusteeServiceStub)
        call = stub.PartiallyDecrypt(timeout=60)
        for message in opening(bank):
            await call.write(message)
        first = await call.read()
        if first.HasField("contributions_wanted"):
            self.uploads += 1
            for message in chunks(bank.stream):
                await call.write(message)
            await call.done_writing()
            first = await call.read()
        content = bytearray()
        while response := await call.read():
            assert response.chunk.offset == len(content)
            content += response.chunk.content
        return first.partial, bytes(content)

    async def send(self, messages: list[wire.PartiallyDecryptRequest]) -> None:
        """Say something else than what was agreed."""

        async def said() -> AsyncIterator[wire.PartiallyDecryptRequest]:
            for message in messages:
                yield message

        stub = self.connection.stub(wire_grpc.TrusteeServiceStub)
        async for _ in self.connection.stream(stub.PartiallyDecrypt, said(), deadline_s=30):
            pass


@pytest.fixture
async def running(
    federation: Federation, tmp_path: Path
) -> AsyncIterator[list[tuple[Trustee, Aggregator]]]:
    """Three trustees, each with a connection of the aggregator to it."""
    own = federation.pki.enrol(tmp_path / "aggregator", Role.AGGREGATOR, "main")
    async with AsyncExitStack() as stack:
        made = []
        for holder in (1, 2, 3):
            trustee = make_trustee(tmp_path / f"t{holder}", federation.pki, holder)
            stack.callback(trustee.database.close)
            trustee.hold()
            address = await stack.enter_async_context(served(trustee))
            connection = await stack.enter_async_context(Connection(address, own, Role.TRUSTEE))
            made.append((trustee, Aggregator(connection)))
        yield made


async def test_any_two_of_three_trustees_open_a_sum_and_a_liar_is_named(
    federation: Federation, running: list[tuple[Trustee, Aggregator]]
) -> None:
    bank = federation.sum()
    digest = bank.request.digest()
    partials = {}
    for trustee, aggregator in running:
        description, partial = await aggregator.ask(bank)
        assert (description.trustee, description.holder) == (trustee.id, trustee.holder)
        assert description.sha256 == hashlib.sha256(partial).digest()
        public = verify_member(
            description.certificate,
            federation.pki.anchors,
            federation.pki.current(),
            utc_now(),
            federation.pki.spiffe_id(Role.TRUSTEE, trustee.id),
        )
        statement = partial_decryption(
            digest, trustee.holder, description.size_bytes, description.sha256
        )
        assert signing.verify(public, description.signature, *statement)
        # Asked again, it neither wants the ciphertexts nor says anything new.
        assert (await aggregator.ask(bank))[1] == partial
        assert aggregator.uploads == 1
        partials[trustee.holder] = partial
    for pair in ((1, 2), (1, 3), (2, 3)):
        some = {holder: partials[holder] for holder in pair}
        sums = key().combine(LAYOUT, 3, bank.total, some, digest)
        assert sums["amount"].tolist() == [111, 222, 333]
    # One that lies is named; the pair without it is among those above.
    lie = bytes([partials[2][0] ^ 1]) + partials[2][1:]
    with pytest.raises(ProtocolViolationError) as caught:
        key().verify_partial(bank.total, 2, lie, digest)
    assert (caught.value.code, caught.value.culprit) == ("PARTIAL_INVALID", "2")


async def test_the_aggregator_reads_why_it_was_refused_before_it_uploads(
    federation: Federation, running: list[tuple[Trustee, Aggregator]]
) -> None:
    _, aggregator = running[0]
    for bank, reason in (
        (federation.sum(("bank-a",)), "COHORT_TOO_SMALL"),
        (federation.sum(inputs={"bank-c": contributed("bank-a")}), "CONTRIBUTION_REPEATED"),
    ):
        with pytest.raises(FinSecureError) as caught:
            await aggregator.send(opening(bank))
        assert caught.value.code == reason
    assert aggregator.uploads == 0


async def test_streams_out_of_order_are_refused(
    federation: Federation, running: list[tuple[Trustee, Aggregator]]
) -> None:
    trustee, aggregator = running[0]
    bank = federation.sum()
    first, page = opening(bank)
    pieces = list(chunks(bank.stream))
    for messages in (
        [],
        [page],
        [pieces[0]],
        [first],
        [first, pieces[0]],
        [first, first],
        [first, page, page],
        [first, page, *pieces[:-1]],
        [first, page, *pieces, pieces[-1]],
        [first, page, *reversed(pieces)],
    ):
        with pytest.raises(FinSecureError) as caught:
            await aggregator.send(list(messages))
        assert caught.value.code == "STREAM_ORDER"
    # Whatever named what it wanted to have opened is on record.
    assert trustee.verdicts(bank.request.context.subject_name) == [("STREAM_ORDER", None)] * 7
    crowd = wire.ManifestPage(contributions=[manifest(bank).contributions[0]] * 257)
    with pytest.raises(FinSecureError) as caught:
        await aggregator.send([first, wire.PartiallyDecryptRequest(manifest=crowd)])
    assert caught.value.code == "INVALID_MESSAGE"
    padded = manifest(bank)
    padded.contributions[0].certificate += bytes(2048)
    with pytest.raises(FinSecureError) as caught:
        await aggregator.send([first, wire.PartiallyDecryptRequest(manifest=padded)])
    assert caught.value.code == "INVALID_MESSAGE"


async def test_a_revoked_aggregator_is_cut_off_in_the_middle_of_its_request(
    federation: Federation, running: list[tuple[Trustee, Aggregator]], tmp_path: Path
) -> None:
    trustee, aggregator = running[0]
    bank = federation.sum()
    stub = aggregator.connection.stub(wire_grpc.TrusteeServiceStub)
    call = stub.PartiallyDecrypt(timeout=60)
    for message in opening(bank):
        await call.write(message)
    assert (await call.read()).HasField("contributions_wanted")
    own = IdentityStore(tmp_path / "aggregator").current()
    federation.pki.revoke(own.certified.serial)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()  # it sends nothing more, and is told within a second all the same
    assert from_wire(caught.value).code == "CERTIFICATE_REVOKED"
    assert trustee.verdicts(bank.request.context.subject_name) == []


@pytest.mark.parametrize("role", list(Role))
async def test_aggregators_open_and_people_who_administer_make_keys(
    federation: Federation, tmp_path: Path, role: Role
) -> None:
    trustee = make_trustee(tmp_path / "t", federation.pki, 1)
    own = federation.pki.enrol(tmp_path / "caller", role, "caller")
    calls = {
        "GetTrustee": wire.GetTrusteeRequest(),
        "AdvanceCeremony": wire.AdvanceCeremonyRequest(step=1),
        "ImportShare": wire.ImportShareRequest(),
    }
    async with (
        served(trustee) as address,
        Connection(address, own, Role.TRUSTEE, federation="lending") as connection,
    ):
        stub = connection.stub(wire_grpc.TrusteeServiceStub)
        for name, request in calls.items():
            denied = False
            try:
                await connection.call(getattr(stub, name), request)
            except FinSecureError as error:
                denied = isinstance(error, PermissionDeniedError)
            assert denied == (role not in (Role.OPERATOR, Role.OFFICER)), name
        with pytest.raises(FinSecureError) as caught:
            await Aggregator(connection).send([])
        expected = "STREAM_ORDER" if role is Role.AGGREGATOR else "ROLE_NOT_ALLOWED"
        assert caught.value.code == expected
    trustee.database.close()


async def test_an_aggregator_of_another_federation_is_turned_away(
    federation: Federation, tmp_path: Path
) -> None:
    trustee = make_trustee(tmp_path / "t", federation.pki, 1)
    stranger = federation.pki.enrol(
        tmp_path / "stranger", Role.AGGREGATOR, "main", federation="cards"
    )
    async with (
        served(trustee) as address,
        Connection(address, stranger, Role.TRUSTEE, federation="lending") as connection,
    ):
        with pytest.raises(PermissionDeniedError) as caught:
            await Aggregator(connection).send([])
        assert caught.value.code == "TRUST_DOMAIN_REFUSED"
    trustee.database.close()


AUDIT_CALLS = {
    "GetCheckpoint": audit.GetCheckpointRequest(),
    "GetConsistencyProof": audit.GetConsistencyProofRequest(first_size=1, second_size=1),
    "GetInclusionProof": audit.GetInclusionProofRequest(index=0, tree_size=1),
    "ProvePublication": audit.ProvePublicationRequest(subject="x", sha256=bytes(32)),
    "GetKeyHandover": audit.GetKeyHandoverRequest(verifier_key="x"),
    "ListEvents": audit.ListEventsRequest(),
}


@pytest.mark.parametrize("role", list(Role))
async def test_people_read_a_trustees_log_and_members_follow_it(
    federation: Federation, tmp_path: Path, role: Role
) -> None:
    trustee = make_trustee(tmp_path / "t", federation.pki, 1)
    own = federation.pki.enrol(tmp_path / "caller", role, "caller")
    await trustee.holdings.card(OPERATOR)
    async with (
        served(trustee) as address,
        Connection(address, own, Role.TRUSTEE, federation="lending") as connection,
    ):
        stub = connection.stub(audit_grpc.AuditServiceStub)
        for name, request in AUDIT_CALLS.items():
            denied = False
            try:
                await connection.call(getattr(stub, name), request)
            except NotFoundError:
                assert name in {"ProvePublication", "GetKeyHandover"}
            except PermissionDeniedError:
                denied = True
            wanted = READERS if name == "ListEvents" else MEMBERS
            assert denied == (role not in wanted), name
        watch = connection.stream(
            stub.WatchEvents, audit.WatchEventsRequest(start=0), deadline_s=30
        )
        if role in READERS:
            assert len((await anext(watch)).events) == 2
            await watch.aclose()
        else:
            with pytest.raises(PermissionDeniedError):
                await anext(watch)
        for impossible in (
            ("GetConsistencyProof", audit.GetConsistencyProofRequest(second_size=2**40)),
            ("GetInclusionProof", audit.GetInclusionProofRequest(index=9, tree_size=9)),
        ):
            with pytest.raises(FinSecureError) as caught:
                await connection.call(getattr(stub, impossible[0]), impossible[1])
            expected = {"TREE_SIZE", "INVALID_MESSAGE"} if role in MEMBERS else {"ROLE_NOT_ALLOWED"}
            assert caught.value.code in expected
    trustee.database.close()


async def test_who_follows_a_trustee_notices_that_its_database_was_put_back(
    federation: Federation, tmp_path: Path
) -> None:
    trustee = make_trustee(tmp_path / "t", federation.pki, 1)
    own = federation.pki.enrol(tmp_path / "caller", Role.AGGREGATOR, "main")
    database = tmp_path / "t" / "trustee.db"
    trustee.hold()
    trustee.database.close()
    shutil.copy(database, tmp_path / "snapshot.db")
    trustee = trustee.restarted()
    memory = LogMemory(tmp_path / "memory.json")
    origin = trustee_log(f"lending.{federation.pki.domain}", trustee.id)
    async with (
        served(trustee) as address,
        Connection(address, own, Role.TRUSTEE) as connection,
    ):
        await Aggregator(connection).ask(federation.sum())
        follower = LogFollower(connection, memory, origin=origin)
        assert (await follower.advance()).size == 2
        other = trustee_log(f"lending.{federation.pki.domain}", "trustee-2")
        with pytest.raises(IntegrityError, match="AUDIT_LOG_FOREIGN"):
            await LogFollower(connection, LogMemory(tmp_path / "m2"), origin=other).advance()
    trustee.database.close()
    shutil.copy(tmp_path / "snapshot.db", database)
    trustee = trustee.restarted()
    async with (
        served(trustee) as address,
        Connection(address, own, Role.TRUSTEE) as connection,
    ):
        with pytest.raises(IntegrityError, match="AUDIT_LOG_ROLLED_BACK"):
            await LogFollower(connection, memory, origin=origin).advance()
    trustee.database.close()
