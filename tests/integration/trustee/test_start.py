"""A trustee as its owner starts it, beside a key service: its log, its second copy, its health."""

from pathlib import Path

import pytest
from finsecure.keyservice.v1 import trustee_pb2 as wire
from finsecure.keyservice.v1 import trustee_pb2_grpc as wire_grpc
from finsecure_crypto.audit_event import Event
from finsecure_crypto.errors import IntegrityError, PermissionDeniedError, UnavailableError
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.connection import Connection
from finsecure_rpc.log_memory import LogMemory

from tests.support.keyservice_deployment import BANK, Deployment
from tests.support.trustee_deployment import DeployedTrustee, enrolled_trustee


@pytest.fixture
async def north(keyservice: Deployment, tmp_path: Path) -> DeployedTrustee:
    return await enrolled_trustee(
        keyservice, tmp_path / "north", audit_file=tmp_path / "north-audit.jsonl"
    )


async def card(connection: Connection) -> None:
    stub = connection.stub(wire_grpc.TrusteeServiceStub)
    await connection.call(stub.GetTrustee, wire.GetTrusteeRequest())


async def events(connection: Connection, folder: Path) -> list[Event]:
    follower = LogFollower(connection, LogMemory(folder / "memory.json"))
    return [Event.parse(leaf) async for leaf in follower.events()]


async def test_a_trustee_does_not_start_on_an_older_copy_of_its_database(
    north: DeployedTrustee, tmp_path: Path
) -> None:
    async with north.running():
        pass
    snapshot = north.snapshot()
    async with north.running() as connection:
        await card(connection)
        _, made, *_ = await events(connection, tmp_path)
        assert made.action == "sealing-key.make"
        assert made.subject == "federations/lending/trustees/north"
        assert (made.caller, bool(made.certificate)) == (
            "spiffe://finsecure.test/operator/alice",
            True,
        )
    async with north.running() as connection:
        await card(connection)
    north.restore(snapshot)
    with pytest.raises(IntegrityError, match="AUDIT_LOG_ROLLED_BACK"):
        async with north.running():
            pass
    # A database that was lost is no excuse either: the new one has a shorter log, and another.
    north.database.unlink()
    with pytest.raises(IntegrityError, match="AUDIT_LOG_ROLLED_BACK"):
        async with north.running():
            pass


async def test_callers_who_are_not_let_in_are_in_a_trustees_log(
    keyservice: Deployment, north: DeployedTrustee, tmp_path: Path
) -> None:
    bank = await keyservice.enrol(BANK, await keyservice.create(BANK))
    async with DeployedTrustee(north.configuration, bank).running() as connection:
        with pytest.raises(PermissionDeniedError):
            await card(connection)
    async with north.running() as connection:
        refused = (await events(connection, tmp_path))[-1]
    assert (refused.action, refused.caller) == (
        "call.refuse",
        "spiffe://lending.finsecure.test/client/bank-1",
    )
    assert refused.details["method"] == "GetTrustee"
    assert refused.details["reason"] == "ROLE_NOT_ALLOWED"


async def test_a_second_copy_that_cannot_be_written_stops_the_start(
    keyservice: Deployment, tmp_path: Path
) -> None:
    north = await enrolled_trustee(
        keyservice, tmp_path / "north", audit_file=tmp_path / "away" / "audit.jsonl"
    )
    with pytest.raises(UnavailableError, match="AUDIT_MIRROR_UNAVAILABLE"):
        async with north.running():
            pass
