"""Acts of two persons around a federation: lowering its minimum cohorts, registering a trustee."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from finsecure.keyservice.v1 import approvals_pb2 as approvals
from finsecure.keyservice.v1 import approvals_pb2_grpc as approvals_grpc
from finsecure.keyservice.v1 import members_pb2 as members
from finsecure.keyservice.v1 import members_pb2_grpc as members_grpc
from finsecure_crypto.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    StateError,
)
from finsecure_crypto.minimum_cohorts import MinimumCohorts
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.connection import Connection
from finsecure_rpc.log_memory import LogMemory
from google.protobuf.field_mask_pb2 import FieldMask

from tests.support.keyservice_deployment import BANK, LENDING, Deployment, deployed, new_id

Ask = Callable[..., Awaitable[object]]


async def federation(by: Connection, name: str = LENDING) -> members.Federation:
    stub = by.stub(members_grpc.FederationServiceStub)
    response = await by.call(stub.GetFederation, members.GetFederationRequest(name=name))
    return response.federation


async def update(by: Connection, etag: str, **minima: int) -> members.Federation:
    stub = by.stub(members_grpc.FederationServiceStub)
    request = members.UpdateFederationRequest(
        federation=members.Federation(name=LENDING, etag=etag, **minima),
        update_mask=FieldMask(paths=list(minima)),
        request_id=new_id(),
    )
    return (await by.call(stub.UpdateFederation, request)).federation


async def lower(by: Connection, least: int = 2) -> members.Federation:
    """Lower the minimum cohort of a federation that nobody has changed yet."""
    return await update(by, "1", minimum_cohort=least)


async def admit(by: Connection, display_name: str = "North") -> str:
    """Register a trustee."""
    stub = by.stub(members_grpc.MemberServiceStub)
    member = members.Member(name=f"{LENDING}/trustees/north", display_name=display_name)
    request = members.CreateMemberRequest(member=member, request_id=new_id())
    return str((await by.call(stub.CreateMember, request)).api_key)


@dataclass
class Officers:
    """Two security officers."""

    carol: Connection
    dave: Connection
    seen: set[str] = field(default_factory=set)

    async def newest(self) -> str:
        """Name of the proposal that was made since the last look."""
        stub = self.dave.stub(approvals_grpc.ApprovalServiceStub)
        listed = await self.dave.call(
            stub.ListProposals, approvals.ListProposalsRequest(open_only=True)
        )
        (name,) = {each.name for each in listed.proposals} - self.seen
        self.seen.add(name)
        return str(name)

    async def approve(self, by: Connection, name: str) -> None:
        stub = by.stub(approvals_grpc.ApprovalServiceStub)
        request = approvals.ApproveProposalRequest(name=name, request_id=new_id())
        await by.call(stub.ApproveProposal, request)


async def officers(keyservice: Deployment) -> Officers:
    return Officers(await keyservice.officer("carol"), await keyservice.officer("dave"))


@pytest.mark.parametrize("ask", [lower, admit])
async def test_only_what_two_officers_agree_on_is_done(keyservice: Deployment, ask: Ask) -> None:
    assert (await federation(keyservice.operator)).minimum_cohort == 3
    with pytest.raises(PermissionDeniedError, match="ROLE_NOT_ALLOWED"):
        await ask(keyservice.operator)
    two = await officers(keyservice)
    with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
        await ask(two.carol)
    proposal = await two.newest()
    with pytest.raises(PermissionDeniedError, match="SELF_APPROVAL"):
        await two.approve(two.carol, proposal)
    with pytest.raises(PermissionDeniedError, match="ROLE_NOT_ALLOWED"):
        await two.approve(keyservice.operator, proposal)
    with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
        await ask(two.carol)
    await two.approve(two.dave, proposal)
    with pytest.raises(PermissionDeniedError, match="ROLE_NOT_ALLOWED"):
        await ask(keyservice.operator)
    assert await ask(two.carol)
    assert (await federation(two.dave)).minimum_cohort == (2 if ask is lower else 3)


async def test_an_approval_is_of_one_request_alone(keyservice: Deployment) -> None:
    await update(keyservice.operator, "1", minimum_cohort=9)
    two = await officers(keyservice)
    for wanted, another in (
        (
            lambda: update(two.carol, "2", minimum_cohort=5),
            lambda: update(two.carol, "2", minimum_cohort=4),
        ),
        (lambda: admit(two.carol), lambda: admit(two.carol, "North, Ltd")),
    ):
        with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
            await wanted()
        await two.approve(two.dave, await two.newest())
        with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
            await another()
        await two.newest()
        assert await wanted()


@pytest.mark.parametrize("ask", [lower, admit])
async def test_an_approval_ends(tmp_path: Path, ask: Ask) -> None:
    async with deployed(tmp_path, approval_lifetime_h=1) as keyservice:
        two = await officers(keyservice)
        with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
            await ask(two.carol)
        proposal = await two.newest()
        await two.approve(two.dave, proposal)
        keyservice.clock.skew = timedelta(minutes=61)
        with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
            await ask(two.carol)
        with pytest.raises(StateError, match="PROPOSAL_NOT_PENDING"):
            await two.approve(two.dave, proposal)


async def test_an_operator_raises_and_what_was_agreed_on_before_does_not_lower_it_again(
    keyservice: Deployment,
) -> None:
    first = await federation(keyservice.operator)
    assert (first.minimum_cohort, first.minimum_sum_cohort, first.revision) == (3, 50, 1)
    two = await officers(keyservice)
    with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
        await lower(two.carol)
    await two.approve(two.dave, await two.newest())
    raised = await update(keyservice.operator, first.etag, minimum_cohort=5, minimum_sum_cohort=60)
    assert (raised.minimum_cohort, raised.minimum_sum_cohort, raised.revision) == (5, 60, 2)
    with pytest.raises(ConflictError, match="ETAG_MISMATCH"):
        await lower(two.carol)
    with pytest.raises(PermissionDeniedError, match="ROLE_NOT_ALLOWED"):
        # Raising one does not make up for lowering the other.
        await update(keyservice.operator, raised.etag, minimum_cohort=99, minimum_sum_cohort=59)
    assert await federation(keyservice.operator) == raised


async def test_updates_that_make_no_sense(keyservice: Deployment) -> None:
    operator = keyservice.operator
    for etag, minima, error, code in (
        ("", {"minimum_cohort": 5}, InvalidArgumentError, "ETAG_REQUIRED"),
        ("zz", {"minimum_cohort": 5}, ConflictError, "ETAG_MISMATCH"),
        ("2", {"minimum_cohort": 5}, ConflictError, "ETAG_MISMATCH"),
        ("1", {}, InvalidArgumentError, "UPDATE_MASK"),
        ("1", {"revision": 9}, InvalidArgumentError, "UPDATE_MASK"),
        ("1", {"minimum_cohort": 0}, InvalidArgumentError, "MINIMUM_OUT_OF_RANGE"),
        ("1", {"minimum_cohort": 1}, InvalidArgumentError, "MINIMUM_OUT_OF_RANGE"),
        ("1", {"minimum_cohort": 100_001}, InvalidArgumentError, "INVALID_MESSAGE"),
    ):
        with pytest.raises(error, match=code):
            await update(operator, etag, **minima)
    request = members.UpdateFederationRequest(
        federation=members.Federation(name="federations/nowhere", etag="1", minimum_cohort=5),
        update_mask=FieldMask(paths=["minimum_cohort"]),
        request_id=new_id(),
    )
    stub = operator.stub(members_grpc.FederationServiceStub)
    with pytest.raises(NotFoundError, match="FEDERATION_NOT_FOUND"):
        await operator.call(stub.UpdateFederation, request)


async def test_a_new_federation_demands_what_it_is_given_or_the_default(
    keyservice: Deployment,
) -> None:
    operator = keyservice.operator
    create = operator.stub(members_grpc.FederationServiceStub).CreateFederation
    for name, given, demanded in (
        ("cards", {}, (3, 50)),
        ("loans", {"minimum_cohort": 2, "minimum_sum_cohort": 7}, (2, 7)),
    ):
        wanted = members.Federation(name=f"federations/{name}", **given)
        request = members.CreateFederationRequest(federation=wanted, request_id=new_id())
        made = (await operator.call(create, request)).federation
        assert (made.minimum_cohort, made.minimum_sum_cohort) == demanded
    lone = members.CreateFederationRequest(
        federation=members.Federation(name="federations/lone", minimum_cohort=1),
        request_id=new_id(),
    )
    with pytest.raises(InvalidArgumentError, match="MINIMUM_OUT_OF_RANGE"):
        await operator.call(create, lone)


async def test_members_read_and_prove_the_minima_of_their_own_federation_alone(
    keyservice: Deployment, tmp_path: Path
) -> None:
    operator = keyservice.operator
    create = operator.stub(members_grpc.FederationServiceStub).CreateFederation
    cards = members.Federation(name="federations/cards")
    await operator.call(
        create, members.CreateFederationRequest(federation=cards, request_id=new_id())
    )
    await update(operator, "1", minimum_cohort=5)
    for name in (BANK, f"{LENDING}/aggregators/main", f"{LENDING}/trustees/north"):
        member = await keyservice.member(name)
        found = await federation(member)
        demanded = MinimumCohorts(LENDING, 2, 5, 50)
        assert (found.revision, found.minimum_cohort, found.minimum_sum_cohort) == (2, 5, 50)
        memory = LogMemory(tmp_path / f"{name.replace('/', '-')}.json")
        event = await LogFollower(member, memory).verify_publication(LENDING, demanded.digest())
        assert (event.action, event.details["minimum_cohort"]) == ("federation.update", 5)
        for foreign in ("federations/cards", "federations/nowhere"):
            with pytest.raises(PermissionDeniedError, match="FEDERATION_FOREIGN"):
                await federation(member, foreign)
