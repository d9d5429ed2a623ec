"""Audited sums over the wire: an aggregator process that is killed, real trustees, SDK members."""

import asyncio
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from finsecure.aggregation.v1 import sums_pb2, sums_pb2_grpc
from finsecure_client.config import (
    ClientConfig,
    ClientSettings,
    EgressSettings,
    PolicySettings,
    SumSettings,
)
from finsecure_client.report import Report
from finsecure_client.sdk import connect
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import PermissionDeniedError, StateError
from finsecure_rpc.connection import Connection

from tests.support.encrypted_federation import encrypted_federation
from tests.support.federation import FEDERATION, Federation

LABELS = ("shop", "mill")
VALUES = {"bank-0": {"shop": 5, "mill": 10**12}, "bank-1": {"shop": 7}, "bank-2": {"mill": 11}}
TOTALS = {"shop": 12, "mill": 10**12 + 11}


def config(federation, bank):
    home = federation.folder / "members" / bank
    federation.pki.enrol(home / "identity", Role.CLIENT, bank)
    keyservice = f"127.0.0.1:{federation.key_service.ports[0]}"
    return ClientConfig(
        client=ClientSettings(
            federation=FEDERATION,
            identity_dir=home / "identity",
            root=federation.folder / "root.pem",
            keyservice=keyservice,
            keyservice_enrol=keyservice,
            aggregator=federation.address,
            state_dir=home / "state",
        ),
        policy=PolicySettings(
            tasks=("*",), dealt_keys=True, trustees=("trustee-1", "trustee-2", "trustee-3")
        ),
        egress=EgressSettings(manifest=home / "egress.jsonl"),
        sums=SumSettings(sums=("exposure*",), minimum_contributors=2),
    )


async def reached(call):
    """Repeat a call until the aggregator is up."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except Exception as error:
                if getattr(error, "code", "") != "SERVICE_UNREACHABLE":
                    raise
                await asyncio.sleep(0.1)


async def test_members_contribute_and_trustees_open_through_a_kill(tmp_path):
    federation = Federation(tmp_path)
    federation.extra_config = "[sums]\nminimum_contributors = 2\n"
    async with encrypted_federation(federation, absent=[1]), AsyncExitStack() as stack:
        federation.kill()
        federation.start(crash_at="partial")
        members = [
            await stack.enter_async_context(connect(config(federation, bank))) for bank in VALUES
        ]
        first = members[0].sums

        async def create(name):
            return await first.create(
                name,
                LABELS,
                maximum=2**41,
                encryption_key="first",
                minimum_contributors=2,
                maximum_contributors=10,
            )

        await reached(lambda: create("exposure"))
        await create("exposure-of-two")
        for member in members:
            await member.sums.contribute("exposure", VALUES[member.id])
        for member in members[:2]:
            await member.sums.contribute("exposure-of-two", VALUES[member.id])
        # The contract holds at the edge, and the roles do.
        stranger = federation.pki.enrol(tmp_path / "viewer", Role.VIEWER, "eve")
        eve = await stack.enter_async_context(
            Connection(federation.address, stranger, Role.AGGREGATOR, federation=FEDERATION)
        )
        stub = eve.stub(sums_pb2_grpc.AuditedSumServiceStub)
        request = sums_pb2.OpenSumRequest(
            name=f"federations/{FEDERATION}/sums/exposure", request_id=str(uuid4())
        )
        with pytest.raises(PermissionDeniedError):
            await eve.call(stub.OpenSum, request)
        with pytest.raises(PermissionDeniedError, match="created by"):
            await members[1].sums.open("exposure")

        await first.open("exposure")
        await federation.died()
        federation.start()
        totals = await reached(lambda: first.totals("exposure"))
        assert totals == TOTALS
        done = await members[2].sums.get("exposure")
        assert done.contributors == tuple(VALUES)

        await create("exposure-void")
        await first.cancel("exposure-void")
        asked = [
            (line["method"], line["subject"].rpartition("/")[2], line["caller"].rpartition("/")[2])
            for line in federation.logged("change asked for")
        ]
        assert asked[-2:] == [
            ("CreateSum", "exposure-void", "bank-0"),
            ("CancelSum", "exposure-void", "bank-0"),
        ]
        assert ("OpenSum", "exposure", "bank-0") in asked
        refused = {(line["code"], line["caller"]) for line in federation.logged("call refused")}
        assert ("ROLE_NOT_ALLOWED", str(federation.pki.spiffe_id(Role.VIEWER, "eve"))) in refused

        # The aggregator would open a sum of two; no trustee here helps with fewer than three.
        await first.open("exposure-of-two")
        with pytest.raises(StateError, match="COHORT_TOO_SMALL"):
            await first.totals("exposure-of-two")
    report = Report.read(tmp_path / "members" / "bank-1" / "egress.jsonl", "exposure")
    assert "encrypted contribution to a sum" in {total.kind for total in report.totals}
