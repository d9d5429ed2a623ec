"""Steps of the transactions on tasks and rounds; whoever calls them commits all or nothing."""

from typing import Any

from finsecure_crypto.errors import ConflictError, NotFoundError, StateError
from finsecure_crypto.federation import RoundKind, RoundMetrics
from sqlalchemy import ColumnElement, Connection, Row, Table, and_, insert, select, update

from finsecure_aggregator import schema
from finsecure_aggregator.records import (
    PhaseRecord,
    RoundKey,
    RoundRecord,
    RoundState,
    TaskRecord,
    TaskState,
    TrusteeAnswer,
)
from finsecure_aggregator.rows import round_values, task_of, task_values


def create_task(connection: Connection, task: TaskRecord) -> TaskRecord:
    """Add a task within a transaction; ConflictError TASK_EXISTS if its name is taken."""
    table = schema.tasks
    there = select(table.c.name).where(table.c.name == task.name)
    if connection.execute(there).one_or_none() is not None:
        raise ConflictError(
            "TASK_EXISTS", f"{task.name} exists already; tasks never change, choose another name"
        )
    connection.execute(insert(table).values(**task_values(task)))
    return task


def cancel_task(connection: Connection, name: str, by: str) -> TaskRecord:
    """Cancel a task within a transaction, naming who did; one that has ended stays as it is."""
    if not read_task(connection, name).state.ended:
        change_task(
            connection,
            name,
            state=TaskState.CANCELLED.value,
            detail=f"cancelled by {by}",
            next_round_ns=None,
        )
    return read_task(connection, name)


def read_task(connection: Connection, name: str) -> TaskRecord:
    """Read a task within a transaction; NotFoundError TASK_NOT_FOUND."""
    row = connection.execute(select(schema.tasks).where(schema.tasks.c.name == name)).one_or_none()
    if row is None:
        raise NotFoundError(
            "TASK_NOT_FOUND", f"there is no {name}; ListTasks names those that exist"
        )
    return task_of(row)


def at_round(table: Table, key: RoundKey) -> ColumnElement[bool]:
    """Make the condition that a row of a table is about a round."""
    return and_(
        table.c.task == key.task,
        table.c.number == key.number,
        table.c.attempt == key.attempt,
    )


def change_task(connection: Connection, name: str, /, **values: Any) -> None:
    """Set columns of a task."""
    connection.execute(update(schema.tasks).where(schema.tasks.c.name == name).values(**values))


def change_open_round(connection: Connection, key: RoundKey, **values: Any) -> None:
    """Set columns of a round that is not over; StateError STALE_ROUND."""
    ended = [state.value for state in RoundState if state.ended]
    changed = connection.execute(
        update(schema.rounds)
        .where(at_round(schema.rounds, key), schema.rounds.c.state.not_in(ended))
        .values(**values)
    )
    if changed.rowcount != 1:
        raise StateError("STALE_ROUND", f"{key.name} is over")


def close_phase(connection: Connection, key: RoundKey, now_ns: int) -> None:
    """Write down when the open phase of a round closed."""
    table = schema.phases
    connection.execute(
        update(table)
        .where(at_round(table, key), table.c.close_ns.is_(None))
        .values(close_ns=now_ns)
    )


def end_round(connection: Connection, record: RoundRecord, task: TaskRecord) -> None:
    """Write down how a round ended, with its task's new state; drop its payloads."""
    close_phase(connection, record.key, record.end_ns or 0)
    values = round_values(record)
    change_open_round(connection, record.key, **values)
    # The log has served its purpose. What was revealed should not lie around; who spoke, how
    # much, and the digests that recognise a repeated message stay.
    connection.execute(
        update(schema.messages).where(at_round(schema.messages, record.key)).values(payload=b"")
    )
    change_task(connection, task.name, **task_values(task))


def read_round(connection: Connection, row: Row[Any]) -> RoundRecord:
    """Read the round of a row, with its phases and who spoke in them."""
    key = RoundKey(row.task, row.number, row.attempt)
    phases = [
        PhaseRecord(RoundState(p.phase), p.open_ns, p.deadline_ns, p.close_ns)
        for p in connection.execute(
            select(schema.phases)
            .where(at_round(schema.phases, key))
            .order_by(schema.phases.c.open_ns)
        )
    ]
    clients: dict[RoundState, list[str]] = {}
    received: dict[str, int] = {}
    log = schema.messages
    for message in connection.execute(
        select(log.c.phase, log.c.client, log.c.size_bytes)
        .where(at_round(log, key))
        .order_by(log.c.sequence)
    ):
        clients.setdefault(RoundState(message.phase), []).append(message.client)
        received[message.client] = received.get(message.client, 0) + message.size_bytes
    return RoundRecord(
        key=key,
        kind=RoundKind(row.kind),
        state=RoundState(row.state),
        nonce=row.nonce,
        base_version=row.base_version,
        invited=tuple(row.invited),
        minimum_cohort=row.minimum_cohort,
        start_ns=row.start_ns,
        phases=tuple(sorted(phases, key=lambda p: list(RoundState).index(p.phase))),
        end_ns=row.end_ns,
        result_version=row.result_version,
        abort_reason=row.abort_reason,
        abort_detail=row.abort_detail,
        blamed=tuple((client, reason) for client, reason in row.blamed),
        trustees=tuple(TrusteeAnswer(**answer) for answer in row.trustees),
        metrics=RoundMetrics(**row.metrics) if row.metrics else None,
        clients={phase: tuple(ids) for phase, ids in clients.items()},
        received_bytes=received,
    )
