"""Acts that need two persons: one security officer proposes, another approves, it is done once.

Whoever calls a method with such an act makes a proposal by calling, and is told so. After another
security officer has approved it, the same request (its `request_id` apart) is let through, in the
transaction that also notes that it was done. What was approved is bound to the request by digest,
so nothing else can ride on it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_crypto.errors import (
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StateError,
)
from finsecure_crypto.transcript import digest
from google.protobuf.message import Message

from finsecure_keyservice.approval_store import ApprovalStore, ProposalRecord, ProposalState

MOST_OPEN = 100
"""Open proposals of one officer at once."""


@dataclass(frozen=True)
class DangerousAct:
    """What a call would do, as the one who has to agree reads it.

    Attributes:
        action: kind of the act, `<things>.<verb>`, such as `authorities.revoke`.
        summary: what would be done, in one sentence that is made from the request; no secrets.
    """

    action: str
    summary: str


class ApprovalMissingError(Exception):
    """Rolls back the transaction of a call that nobody has agreed to; never leaves the service."""


class Standing(Enum):
    """Where a proposal stands at an instant."""

    PENDING = "pending"
    APPROVED = "approved"
    EXECUTED = "executed"
    REJECTED = "rejected"
    EXPIRED = "expired"


def standing(proposal: ProposalRecord, now: datetime) -> Standing:
    """Where a proposal stands: what is written, or that its time ran out."""
    unfinished = proposal.state in (ProposalState.PENDING, ProposalState.APPROVED)
    if unfinished and now >= proposal.expire_time:
        return Standing.EXPIRED
    return Standing(proposal.state.value)


def request_digest(act: DangerousAct, request: Message) -> bytes:
    """What binds an approval to a request: SHA-256 over all of it but its `request_id`."""
    bound = type(request)()
    bound.CopyFrom(request)
    bound.ClearField("request_id")
    content = bound.SerializeToString(deterministic=True)
    return digest("approved-request", act.action, request.DESCRIPTOR.full_name, content)


def propose(
    store: ApprovalStore,
    act: DangerousAct,
    request: Message,
    proposer: SpiffeId,
    now: datetime,
    lifetime: timedelta,
    identifier: str,
) -> ProposalRecord:
    """Find the open proposal of a request, or make it.

    Args:
        store: the transaction.
        act: what the request would do.
        request: the message; it has a field `request_id`.
        proposer: whose call it is.
        now: the time.
        lifetime: how long it can be approved and done.
        identifier: 16 random hexadecimal digits, for a new one.

    Raises:
        PermissionDeniedError: ROLE_NOT_ALLOWED for who is no security officer.
        ResourceExhaustedError: TOO_MANY_PROPOSALS.
    """
    _require_officer(proposer)
    bound = request_digest(act, request)
    found = store.open_proposal(bound, now)
    if found is not None:
        _record(store, "await", found)
        return found
    if store.count_open(str(proposer), now) >= MOST_OPEN:
        raise ResourceExhaustedError(
            "TOO_MANY_PROPOSALS",
            f"{proposer} has {MOST_OPEN} open proposals: reject some, or let them expire",
        )
    proposal = ProposalRecord(
        id=identifier,
        action=act.action,
        summary=act.summary,
        request_digest=bound,
        state=ProposalState.PENDING,
        proposer=str(proposer),
        create_time=now,
        expire_time=now + lifetime,
    )
    store.add(proposal)
    _record(store, "create", proposal)
    return proposal


def execute(
    store: ApprovalStore, act: DangerousAct, request: Message, executor: SpiffeId, now: datetime
) -> ProposalRecord:
    """Use up the approval of a request; the work is done in the same transaction.

    Raises:
        PermissionDeniedError: ROLE_NOT_ALLOWED for who is no security officer.
        ApprovalMissingError: if there is no approval in force.
    """
    _require_officer(executor)
    found = store.open_proposal(request_digest(act, request), now)
    if found is None or found.state is not ProposalState.APPROVED:
        raise ApprovalMissingError
    done = replace(found, state=ProposalState.EXECUTED, executor=str(executor), execute_time=now)
    store.update(done)
    _record(store, "execute", done)
    return done


def required(proposal: ProposalRecord) -> StateError:
    """The answer to a call that waits for its approval."""
    return StateError(
        "APPROVAL_REQUIRED",
        f"this needs a second security officer: another one than {proposal.proposer} has to run "
        f"`finsecure approval approve {proposal.id}` before {proposal.expire_time.isoformat()}; "
        "then repeat the call",
    )


def get(store: ApprovalStore, identifier: str) -> ProposalRecord:
    """Read a proposal.

    Raises:
        NotFoundError: PROPOSAL_NOT_FOUND.
    """
    proposal = store.get(identifier)
    if proposal is None:
        raise NotFoundError(
            "PROPOSAL_NOT_FOUND",
            f"there is no proposals/{identifier}; list the proposals for those there are",
        )
    return proposal


def approve(
    store: ApprovalStore, identifier: str, approver: SpiffeId, now: datetime
) -> ProposalRecord:
    """Agree to what another officer has proposed.

    Raises:
        NotFoundError: PROPOSAL_NOT_FOUND.
        PermissionDeniedError: ROLE_NOT_ALLOWED, or SELF_APPROVAL for the proposer.
        StateError: PROPOSAL_NOT_PENDING.
    """
    _require_officer(approver)
    proposal = get(store, identifier)
    if proposal.proposer == str(approver):
        raise PermissionDeniedError(
            "SELF_APPROVAL", "you proposed this; another security officer has to approve it"
        )
    if standing(proposal, now) is not Standing.PENDING:
        raise _not_open(proposal, now)
    approved = replace(
        proposal, state=ProposalState.APPROVED, decider=str(approver), decide_time=now
    )
    store.update(approved)
    _record(store, "approve", approved)
    return approved


def reject(
    store: ApprovalStore, identifier: str, officer: SpiffeId, reason: str, now: datetime
) -> ProposalRecord:
    """End a proposal that has not been done yet; the proposer may withdraw its own.

    Raises:
        NotFoundError: PROPOSAL_NOT_FOUND.
        PermissionDeniedError: ROLE_NOT_ALLOWED.
        StateError: PROPOSAL_NOT_PENDING if it is over.
    """
    _require_officer(officer)
    proposal = get(store, identifier)
    if standing(proposal, now) not in (Standing.PENDING, Standing.APPROVED):
        raise _not_open(proposal, now)
    rejected = replace(
        proposal,
        state=ProposalState.REJECTED,
        decider=str(officer),
        decide_time=now,
        reason=reason,
    )
    store.update(rejected)
    _record(store, "reject", rejected)
    return rejected


def withdraw_all(store: ApprovalStore, officer: SpiffeId, now: datetime) -> None:
    """End all that an officer who is put out has proposed or approved and that is not done yet."""
    for proposal in store.open_of(str(officer), now):
        rejected = replace(
            proposal,
            state=ProposalState.REJECTED,
            decide_time=now,
            reason=f"{officer} may not act as a security officer",
        )
        store.update(rejected)
        _record(store, "reject", rejected)


def _record(store: ApprovalStore, what: str, proposal: ProposalRecord) -> None:
    store.trail.record(
        f"proposal.{what}",
        f"proposals/{proposal.id}",
        act=proposal.action,
        summary=proposal.summary,
        request_sha256=proposal.request_digest.hex(),
        proposer=proposal.proposer,
        decider=proposal.decider,
    )


def _require_officer(caller: SpiffeId) -> None:
    if caller.role is not Role.OFFICER:
        raise PermissionDeniedError(
            "ROLE_NOT_ALLOWED", f"{caller} is no security officer; ask one to do this"
        )


def _not_open(proposal: ProposalRecord, now: datetime) -> StateError:
    return StateError(
        "PROPOSAL_NOT_PENDING",
        f"proposals/{proposal.id} is {standing(proposal, now).value}; propose it anew if it is "
        "still wanted",
    )
