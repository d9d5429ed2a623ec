"""Proposals of acts that need two persons, in the key service's database."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from finsecure_keyservice.audit.trail import Recorder
from finsecure_keyservice.schema import PROPOSALS


class ProposalState(Enum):
    """What is written about a proposal; that its time ran out follows from the clock."""

    PENDING = "pending"
    APPROVED = "approved"
    EXECUTED = "executed"
    REJECTED = "rejected"


@dataclass(frozen=True)
class ProposalRecord:
    """A dangerous act that somebody wants, and what became of it; `sequence` orders them."""

    id: str
    action: str
    summary: str
    request_digest: bytes
    state: ProposalState
    proposer: str
    create_time: datetime
    expire_time: datetime
    decider: str = ""
    decide_time: datetime | None = None
    reason: str = ""
    executor: str = ""
    execute_time: datetime | None = None
    sequence: int = 0


class ApprovalStore:
    """Proposals within one transaction; `trail` records what becomes of them."""

    def __init__(self, connection: Connection, trail: Recorder) -> None:
        self._connection = connection
        self.trail = trail

    def add(self, proposal: ProposalRecord) -> None:
        """Add a proposal; its `sequence` is given by the database."""
        self._connection.execute(insert(PROPOSALS).values(_values(proposal)))

    def update(self, proposal: ProposalRecord) -> None:
        """Write what became of a proposal."""
        self._connection.execute(
            update(PROPOSALS).where(PROPOSALS.c.id == proposal.id).values(_values(proposal))
        )

    def get(self, identifier: str) -> ProposalRecord | None:
        """Read one proposal."""
        query = select(PROPOSALS).where(PROPOSALS.c.id == identifier)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _proposal(row)

    def page(
        self, before: int | None, limit: int, open_at: datetime | None
    ) -> Sequence[ProposalRecord]:
        """At most `limit` proposals, newest first, made before sequence number `before`.

        `open_at` leaves out those that are over at an instant.
        """
        query = select(PROPOSALS).order_by(PROPOSALS.c.sequence.desc()).limit(limit)
        if before is not None:
            query = query.where(PROPOSALS.c.sequence < before)
        if open_at is not None:
            query = query.where(_open(open_at))
        return [_proposal(row) for row in self._connection.execute(query).mappings()]

    def open_proposal(self, request_digest: bytes, now: datetime) -> ProposalRecord | None:
        """The proposal of a request that can still be approved or done."""
        query = select(PROPOSALS).where(PROPOSALS.c.request_digest == request_digest, _open(now))
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _proposal(row)

    def open_of(self, officer: str, now: datetime) -> Sequence[ProposalRecord]:
        """Open proposals that an officer has made or approved."""
        theirs = or_(PROPOSALS.c.proposer == officer, PROPOSALS.c.decider == officer)
        query = select(PROPOSALS).where(theirs, _open(now))
        return [_proposal(row) for row in self._connection.execute(query).mappings()]

    def count_open(self, proposer: str, now: datetime) -> int:
        """Number of open proposals that an officer has made."""
        query = select(func.count()).where(PROPOSALS.c.proposer == proposer, _open(now))
        return self._connection.execute(query).scalar_one()


def _open(now: datetime) -> ColumnElement[bool]:
    states = (ProposalState.PENDING.value, ProposalState.APPROVED.value)
    return and_(PROPOSALS.c.state.in_(states), PROPOSALS.c.expire_time > now)


def _values(proposal: ProposalRecord) -> dict[str, Any]:
    values = {**asdict(proposal), "state": proposal.state.value}
    del values["sequence"]  # the database's to give
    return values


def _proposal(row: Mapping[Any, Any]) -> ProposalRecord:
    return ProposalRecord(**{**row, "state": ProposalState(row["state"])})
