"""Acts that need two persons: nobody alone, nothing else, not twice, not too late."""

import os
from collections.abc import Iterator
from datetime import timedelta

import pytest
from finsecure.keyservice.v1 import certificates_pb2
from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_crypto.errors import (
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StateError,
)
from finsecure_keyservice import approvals
from finsecure_keyservice.approval_store import ApprovalStore, ProposalRecord
from finsecure_keyservice.approvals import ApprovalMissingError, DangerousAct, Standing

from tests.support.keyservice import DOMAIN, START, Books

CAROL = SpiffeId(DOMAIN, Role.OFFICER, "carol")
DAVE = SpiffeId(DOMAIN, Role.OFFICER, "dave")
ALICE = SpiffeId(DOMAIN, Role.OPERATOR, "alice")
ACT = DangerousAct("things.destroy", "destroy the thing 1")
DAY = timedelta(days=1)
SOON = START + timedelta(hours=1)


def request(name: str = "certificates/1", request_id: str = "a") -> object:
    return certificates_pb2.RevokeCertificateRequest(name=name, request_id=request_id)


@pytest.fixture
def store() -> Iterator[ApprovalStore]:
    with Books().transaction() as transaction:
        yield transaction.approvals


def propose(store: ApprovalStore, *, by: SpiffeId = CAROL, **fields: str) -> ProposalRecord:
    return approvals.propose(store, ACT, request(**fields), by, START, DAY, os.urandom(8).hex())


def execute(store: ApprovalStore, *, by: SpiffeId = CAROL, now=SOON, act=ACT, **fields: str):
    return approvals.execute(store, act, request(**fields), by, now)


def test_what_two_officers_want_is_done_once(store: ApprovalStore) -> None:
    proposal = propose(store)
    with pytest.raises(ApprovalMissingError):
        execute(store)
    approved = approvals.approve(store, proposal.id, DAVE, SOON)
    assert approvals.standing(approved, SOON) is Standing.APPROVED
    done = execute(store, request_id="another")
    assert (done.proposer, done.decider, done.executor) == (str(CAROL), str(DAVE), str(CAROL))
    assert approvals.get(store, proposal.id) == done
    with pytest.raises(ApprovalMissingError):
        execute(store)
    assert propose(store).id != proposal.id


def test_a_repeated_call_finds_its_proposal(store: ApprovalStore) -> None:
    first = propose(store)
    assert propose(store, request_id="another").id == first.id
    assert propose(store, by=DAVE).id == first.id
    assert propose(store, name="certificates/2").id != first.id


def test_nobody_agrees_with_oneself(store: ApprovalStore) -> None:
    proposal = propose(store)
    with pytest.raises(PermissionDeniedError, match="SELF_APPROVAL"):
        approvals.approve(store, proposal.id, CAROL, SOON)
    with pytest.raises(ApprovalMissingError):
        execute(store, by=DAVE)


def test_only_officers_have_a_say(store: ApprovalStore) -> None:
    proposal = propose(store)
    for attempt in (
        lambda: propose(store, by=ALICE),
        lambda: approvals.approve(store, proposal.id, ALICE, SOON),
        lambda: approvals.reject(store, proposal.id, ALICE, "no", SOON),
        lambda: execute(store, by=ALICE),
    ):
        with pytest.raises(PermissionDeniedError, match="ROLE_NOT_ALLOWED"):
            attempt()


@pytest.mark.parametrize(
    "other",
    [
        {"name": "certificates/2"},
        {"act": DangerousAct("things.reveal", ACT.summary)},
    ],
)
def test_an_approval_is_of_one_request_alone(store: ApprovalStore, other: dict) -> None:
    approvals.approve(store, propose(store).id, DAVE, SOON)
    with pytest.raises(ApprovalMissingError):
        execute(store, **other)


def test_time_runs_out_before_and_after_the_approval(store: ApprovalStore) -> None:
    proposal = propose(store)
    approvals.approve(store, proposal.id, DAVE, START + DAY - timedelta(microseconds=1))
    with pytest.raises(ApprovalMissingError):
        execute(store, now=START + DAY)
    assert approvals.standing(approvals.get(store, proposal.id), START + DAY) is Standing.EXPIRED
    late = propose(store, name="certificates/2")
    with pytest.raises(StateError, match="PROPOSAL_NOT_PENDING"):
        approvals.approve(store, late.id, DAVE, START + DAY)


def test_an_approved_proposal_can_still_be_rejected(store: ApprovalStore) -> None:
    proposal = propose(store)
    approvals.approve(store, proposal.id, DAVE, SOON)
    approvals.reject(store, proposal.id, CAROL, "changed my mind", SOON)
    with pytest.raises(ApprovalMissingError):
        execute(store)
    for attempt in (approvals.approve, lambda *a: approvals.reject(*a[:3], "again", a[3])):
        with pytest.raises(StateError, match="PROPOSAL_NOT_PENDING"):
            attempt(store, proposal.id, DAVE, SOON)


@pytest.mark.parametrize("gone", [CAROL, DAVE])
def test_an_officer_who_is_put_out_takes_along_what_is_not_done(
    store: ApprovalStore, gone: SpiffeId
) -> None:
    approvals.approve(store, propose(store).id, DAVE, SOON)
    approvals.withdraw_all(store, gone, SOON)
    with pytest.raises(ApprovalMissingError):
        execute(store)


def test_open_proposals_are_bounded_and_paged(store: ApprovalStore) -> None:
    for number in range(approvals.MOST_OPEN):
        propose(store, name=f"certificates/{number}")
    with pytest.raises(ResourceExhaustedError, match="TOO_MANY_PROPOSALS"):
        propose(store, name="certificates/more")
    propose(store, by=DAVE, name="certificates/more")
    first = store.page(None, 3, SOON)
    second = store.page(first[-1].sequence, 3, None)
    assert len({item.id for item in (*first, *second)}) == 6
    assert not store.page(None, 3, START + DAY)


def test_what_is_not_there_is_not_found(store: ApprovalStore) -> None:
    with pytest.raises(NotFoundError, match="PROPOSAL_NOT_FOUND"):
        approvals.approve(store, "0" * 16, DAVE, SOON)
