"""What must not be forgotten of audited sums; every function works within a transaction."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from finsecure_crypto.errors import (
    ConflictError,
    NotFoundError,
    ProtocolViolationError,
    ResourceExhaustedError,
    StateError,
)
from finsecure_crypto.homomorphic.decryption import Contribution
from sqlalchemy import Connection, Row, and_, func, insert, select, update

from finsecure_aggregator import schema
from finsecure_aggregator.records import TrusteeAnswer
from finsecure_aggregator.sums.records import Excluded, SumRecord, SumState, SumStatus

_SUMS, _CONTRIBUTIONS = schema.sums, schema.contributions
_UNFINISHED = (SumState.COLLECTING.value, SumState.OPENING.value)


def create(connection: Connection, record: SumRecord, most_at_once: int) -> SumRecord:
    """Add a sum.

    Raises:
        ConflictError: SUM_EXISTS; a sum's name is never used again.
        ResourceExhaustedError: TOO_MANY_SUMS, where its creator has too many that have not ended.
    """
    there = select(_SUMS.c.name).where(_SUMS.c.name == record.name)
    if connection.execute(there).one_or_none() is not None:
        raise ConflictError("SUM_EXISTS", f"{record.name} exists already; choose another name")
    unfinished = select(func.count()).where(
        _SUMS.c.creator == record.creator, _SUMS.c.state.in_(_UNFINISHED)
    )
    if connection.execute(unfinished).scalar_one() >= most_at_once:
        raise ResourceExhaustedError(
            "TOO_MANY_SUMS",
            f"{record.creator} has {most_at_once} sums that have not ended; open or cancel some",
        )
    values = asdict(record) | {"state": record.state.value, "excluded": [], "trustees": []}
    del values["contributions"]
    connection.execute(insert(_SUMS).values(**values))
    return record


def read(connection: Connection, name: str) -> SumRecord:
    """Read a sum; NotFoundError SUM_NOT_FOUND."""
    row = connection.execute(_counted().where(_SUMS.c.name == name)).one_or_none()
    if row is None:
        raise NotFoundError("SUM_NOT_FOUND", f"there is no {name}; ListSums names those that exist")
    return _record(row)


def status(connection: Connection, name: str) -> SumStatus:
    """Read a sum with its contributions; NotFoundError SUM_NOT_FOUND."""
    return SumStatus(read(connection, name), tuple(manifest(connection, name)))


def page(connection: Connection, *, after: str, limit: int) -> Sequence[SumRecord]:
    """Read sums in the order of their names, those behind `after`."""
    query = _counted().where(_SUMS.c.name > after).order_by(_SUMS.c.name).limit(limit)
    return [_record(row) for row in connection.execute(query)]


def unfinished(connection: Connection) -> Sequence[str]:
    """Read the names of all sums that have not ended."""
    query = select(_SUMS.c.name).where(_SUMS.c.state.in_(_UNFINISHED))
    return list(connection.execute(query).scalars())


def manifest(connection: Connection, name: str) -> Sequence[Contribution]:
    """Read all contributions to a sum, in the order of the clients' ids."""
    columns = [column for column in _CONTRIBUTIONS.c if column.name != "sum"]
    query = select(*columns).where(_CONTRIBUTIONS.c.sum == name)
    found = [Contribution(**row._mapping) for row in connection.execute(query)]
    return sorted(found, key=lambda each: each.client)  # a database may collate otherwise


def check_contribution(
    connection: Connection, record: SumRecord, most: int, client: str, sha256: bytes
) -> bool:
    """Check that a contribution may be added now.

    Returns:
        True for one to add, False for one that is there already.

    Raises:
        StateError: SUM_NOT_COLLECTING.
        ResourceExhaustedError: SUM_FULL.
        ProtocolViolationError: CONTRIBUTION_REPEATED, where the client has contributed other
            ciphertexts, or another client has contributed the same.
    """
    found = read(connection, record.name)
    mine = _of(connection, record.name, client)
    if mine is not None and mine.sha256 == sha256:
        return False
    if mine is not None:
        raise ProtocolViolationError(
            "CONTRIBUTION_REPEATED",
            f"{client} has contributed to {record.name} already; a contribution is never changed",
            culprit=client,
        )
    if found.state is not SumState.COLLECTING:
        raise StateError(
            "SUM_NOT_COLLECTING", f"{record.name} is {found.state.value}; it takes nothing more"
        )
    if found.contributions >= most:
        raise ResourceExhaustedError(
            "SUM_FULL", f"{record.name} has its {most} contributors already"
        )
    same = select(_CONTRIBUTIONS.c.client).where(
        _CONTRIBUTIONS.c.sum == record.name, _CONTRIBUTIONS.c.sha256 == sha256
    )
    if connection.execute(same).one_or_none() is not None:
        raise ProtocolViolationError(
            "CONTRIBUTION_REPEATED",
            f"{client} sent another member's ciphertexts; encrypt your own",
            culprit=client,
        )
    return True


def add_contribution(
    connection: Connection, record: SumRecord, most: int, contribution: Contribution
) -> None:
    """Add a contribution, or renew the signature of the same one; raises as `check_contribution`.

    Once the trustees are asked, what is there stays as it is: it is in their request.
    """
    client, sha256 = contribution.client, contribution.sha256
    signed = {"signature": contribution.signature, "certificate": contribution.certificate}
    if check_contribution(connection, record, most, client, sha256):
        connection.execute(
            insert(_CONTRIBUTIONS).values(sum=record.name, client=client, sha256=sha256, **signed)
        )
    elif read(connection, record.name).state is SumState.COLLECTING:
        connection.execute(
            update(_CONTRIBUTIONS)
            .where(_CONTRIBUTIONS.c.sum == record.name, _CONTRIBUTIONS.c.client == client)
            .values(**signed)
        )


def start_opening(
    connection: Connection,
    name: str,
    minimum: int,
    excluded: Collection[Excluded],
    deadline_ns: int,
) -> SumRecord:
    """Take no more contributions, and fix whose are opened; a sum that is further stays.

    Raises:
        StateError: SUM_ENDED, or SUM_GROUP_TOO_SMALL, where too few are left: the sum goes on.
    """
    record = read(connection, name)
    if record.state in (SumState.OPENING, SumState.OPENED):
        return record
    if record.state.ended:
        raise StateError("SUM_ENDED", f"{name} is {record.state.value}: {record.detail}")
    _require_group(record, minimum, excluded)
    _change(
        connection,
        name,
        state=SumState.OPENING.value,
        opening_ns=deadline_ns,
        excluded=[asdict(each) for each in excluded],
    )
    return read(connection, name)


def exclude(
    connection: Connection, name: str, minimum: int, excluded: Collection[Excluded]
) -> SumRecord:
    """Leave more contributions out of a sum that is being opened.

    Raises:
        StateError: SUM_ENDED, or SUM_GROUP_TOO_SMALL, where too few would be left.
    """
    record = read(connection, name)
    everybody = (*record.excluded, *excluded)
    _require_group(record, minimum, everybody)
    _change(connection, name, excluded=[asdict(each) for each in everybody])
    return read(connection, name)


def end(
    connection: Connection,
    name: str,
    state: SumState,
    now_ns: int,
    *,
    reason: str = "",
    detail: str = "",
    trustees: Sequence[TrusteeAnswer] = (),
    totals: Sequence[int] | None = None,
) -> SumRecord:
    """End a sum; StateError SUM_ENDED where it has ended already."""
    _change(
        connection,
        name,
        state=state.value,
        end_ns=now_ns,
        reason=reason,
        detail=detail[:1000],
        trustees=[asdict(each) for each in trustees],
        totals=None if totals is None else list(totals),
    )
    return read(connection, name)


def _require_group(record: SumRecord, minimum: int, excluded: Collection[Excluded]) -> None:
    left = record.contributions - len(excluded)
    if left < minimum:
        reasons = sorted({each.reason for each in excluded})
        raise StateError(
            "SUM_GROUP_TOO_SMALL",
            f"{record.name} has {left} contributions that count where {minimum} are needed"
            + (f" ({len(excluded)} do not: {', '.join(reasons)})" if excluded else "")
            + "; wait for more members, or ask for a new sum",
        )


def _change(connection: Connection, name: str, /, **values: Any) -> None:
    changed = connection.execute(
        update(_SUMS).where(_SUMS.c.name == name, _SUMS.c.state.in_(_UNFINISHED)).values(**values)
    )
    if changed.rowcount != 1:
        raise StateError("SUM_ENDED", f"{name} has ended already")


def _of(connection: Connection, name: str, client: str) -> Row[Any] | None:
    query = select(_CONTRIBUTIONS.c.sha256).where(
        _CONTRIBUTIONS.c.sum == name, _CONTRIBUTIONS.c.client == client
    )
    return connection.execute(query).one_or_none()


def _counted() -> Any:
    count = (
        select(func.count())
        .where(and_(_CONTRIBUTIONS.c.sum == _SUMS.c.name))
        .correlate(_SUMS)
        .scalar_subquery()
    )
    return select(_SUMS, count.label("contributions"))


def _record(row: Row[Any]) -> SumRecord:
    values = dict(row._mapping)
    values["state"] = SumState(values["state"])
    values["excluded"] = tuple(Excluded(**each) for each in values["excluded"])
    values["trustees"] = tuple(TrusteeAnswer(**each) for each in values["trustees"])
    values["totals"] = None if values["totals"] is None else tuple(values["totals"])
    return SumRecord(**values)
