"""What the aggregator must not forget: the interface, and its implementation in SQL.

A method has committed when it returns. Those that take part in one decision are one transaction,
so a killed process leaves either all of it or nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from finsecure_crypto.errors import ConflictError, NotFoundError, StateError
from finsecure_crypto.federation import RoundKind, RoundMetrics
from sqlalchemy import ColumnElement, Connection, Row, Table, and_, func, insert, select, update

from finsecure_aggregator import schema
from finsecure_aggregator.records import (
    Decline,
    Message,
    ModelRecord,
    PhaseRecord,
    RoundKey,
    RoundRecord,
    RoundState,
    TaskRecord,
    TaskState,
    TrusteeAnswer,
)

T = TypeVar("T")


class Transactor(Protocol):
    """Runs functions in transactions, off the event loop (`finsecure_rpc.database.Database`)."""

    async def run(self, function: Callable[[Connection], T]) -> T:
        """Commit what `function` does with the connection, or nothing of it."""
        ...


class Store(Protocol):
    """The aggregator's durable state."""

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run one transaction, such as `once(…)` around a function below."""
        ...

    async def task(self, name: str) -> TaskRecord:
        """Read a task; NotFoundError TASK_NOT_FOUND."""
        ...

    async def tasks(self, *, after: str, limit: int) -> Sequence[TaskRecord]:
        """Read tasks in the order of their names, those behind `after`."""
        ...

    async def unfinished_tasks(self) -> Sequence[TaskRecord]:
        """Read all tasks that run, or were cancelled while a round was open."""
        ...

    async def add_initial_model(self, model: ModelRecord, *, now_ns: int) -> None:
        """Add version 0 and let the task run; ConflictError MODEL_EXISTS."""
        ...

    async def open_round(self, record: RoundRecord) -> None:
        """Add a round with its first phase and make it its task's current one."""
        ...

    async def round(self, key: RoundKey) -> RoundRecord:
        """Read a round; NotFoundError ROUND_NOT_FOUND."""
        ...

    async def rounds(
        self, task: str, *, after: tuple[int, int], limit: int
    ) -> Sequence[RoundRecord]:
        """Read a task's rounds, oldest first, those behind (number, attempt)."""
        ...

    async def last_round(self, task: str) -> RoundRecord | None:
        """Read a task's newest round."""
        ...

    async def last_ended_round(self, task: str) -> RoundRecord | None:
        """Read a task's newest round that is over."""
        ...

    async def attempts(self, task: str, number: int) -> int:
        """Count the attempts at a round."""
        ...

    async def next_phase(self, key: RoundKey, *, now_ns: int, phase: PhaseRecord) -> None:
        """Close the open phase of a round and open the next."""
        ...

    async def append(self, key: RoundKey, messages: Sequence[Message]) -> None:
        """Add accepted messages to a round's log, all in one transaction."""
        ...

    async def messages(self, key: RoundKey) -> Sequence[Message]:
        """Read a round's log, in order of acceptance."""
        ...

    async def message(self, key: RoundKey, phase: RoundState, client: str) -> Message | None:
        """Read the message that a client had accepted in a phase."""
        ...

    async def decline(self, key: RoundKey, decline: Decline) -> None:
        """Keep a client's refusal; its first reason stays."""
        ...

    async def declines(self, key: RoundKey) -> Sequence[Decline]:
        """Read who refused."""
        ...

    async def blame(self, key: RoundKey, blamed: Sequence[tuple[str, str]]) -> None:
        """Keep who broke the protocol so far."""
        ...

    async def complete_round(
        self, record: RoundRecord, model: ModelRecord, task: TaskRecord
    ) -> None:
        """End a round with its model version and its task's new state; drop its payloads."""
        ...

    async def abort_round(self, record: RoundRecord, task: TaskRecord) -> None:
        """End a round without a result, with its task's new state; drop its payloads."""
        ...

    async def model(self, task: str, version: int | None) -> ModelRecord:
        """Read a model version, None for the newest; NotFoundError MODEL_NOT_FOUND."""
        ...

    async def models(self, task: str, *, after: int, limit: int) -> Sequence[ModelRecord]:
        """Read a task's versions, oldest first, those behind `after`."""
        ...


class SqlStore:
    """The store in an SQL database."""

    def __init__(self, database: Transactor) -> None:
        self._run = database.run

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run one transaction, such as `once(…)` around a function below."""
        return await self._run(work)

    async def task(self, name: str) -> TaskRecord:
        """Read a task; NotFoundError TASK_NOT_FOUND."""
        return await self._run(lambda connection: read_task(connection, name))

    async def tasks(self, *, after: str, limit: int) -> Sequence[TaskRecord]:
        """Read tasks in the order of their names, those behind `after`."""
        table = schema.tasks
        query = select(table).where(table.c.name > after).order_by(table.c.name).limit(limit)
        return await self._run(lambda c: [_task(row) for row in c.execute(query)])

    async def unfinished_tasks(self) -> Sequence[TaskRecord]:
        """Read all tasks that run, or were cancelled while a round was open."""
        table = schema.tasks
        running = table.c.state == TaskState.RUNNING.value
        query = select(table).where(running | table.c.current_number.is_not(None))
        return await self._run(lambda c: [_task(row) for row in c.execute(query)])

    async def add_initial_model(self, model: ModelRecord, *, now_ns: int) -> None:
        """Add version 0 and let the task run; ConflictError MODEL_EXISTS."""

        def add(connection: Connection) -> None:
            task = read_task(connection, model.task)
            if task.state is not TaskState.AWAITING_MODEL:
                raise ConflictError(
                    "MODEL_EXISTS",
                    f"{model.task} has its initial model already; create another task to start "
                    "from another model",
                )
            connection.execute(insert(schema.models).values(**asdict(model)))
            _change_task(
                connection,
                model.task,
                state=TaskState.RUNNING.value,
                detail="",
                latest_version=0,
                next_round_ns=now_ns,
            )

        await self._run(add)

    async def open_round(self, record: RoundRecord) -> None:
        """Add a round with its first phase and make it its task's current one."""

        def add(connection: Connection) -> None:
            key = record.key
            if read_task(connection, key.task).state is not TaskState.RUNNING:
                raise StateError("TASK_ENDED", f"{key.task} has ended; no round starts any more")
            connection.execute(insert(schema.rounds).values(**_round_values(record)))
            for phase in record.phases:
                connection.execute(insert(schema.phases).values(**_phase_values(key, phase)))
            _change_task(
                connection,
                key.task,
                current_number=key.number,
                current_attempt=key.attempt,
                next_round_ns=None,
            )

        await self._run(add)

    async def round(self, key: RoundKey) -> RoundRecord:
        """Read a round; NotFoundError ROUND_NOT_FOUND."""
        rows = await self._rounds(_at(schema.rounds, key), 1)
        if not rows:
            raise NotFoundError(
                "ROUND_NOT_FOUND", f"there is no {key.name}; ListRounds names those that exist"
            )
        return rows[0]

    async def rounds(
        self, task: str, *, after: tuple[int, int], limit: int
    ) -> Sequence[RoundRecord]:
        """Read a task's rounds, oldest first, those behind (number, attempt)."""
        table = schema.rounds
        number, attempt = after
        behind = (table.c.number > number) | (
            (table.c.number == number) & (table.c.attempt > attempt)
        )
        return await self._rounds((table.c.task == task) & behind, limit)

    async def last_round(self, task: str) -> RoundRecord | None:
        """Read a task's newest round."""
        rows = await self._rounds(schema.rounds.c.task == task, 1, newest_first=True)
        return rows[0] if rows else None

    async def last_ended_round(self, task: str) -> RoundRecord | None:
        """Read a task's newest round that is over."""
        table = schema.rounds
        over = (table.c.task == task) & table.c.end_ns.is_not(None)
        rows = await self._rounds(over, 1, newest_first=True)
        return rows[0] if rows else None

    async def attempts(self, task: str, number: int) -> int:
        """Count the attempts at a round."""
        table = schema.rounds
        query = select(func.count()).where(table.c.task == task, table.c.number == number)
        return await self._run(lambda c: c.execute(query).scalar_one())

    async def next_phase(self, key: RoundKey, *, now_ns: int, phase: PhaseRecord) -> None:
        """Close the open phase of a round and open the next."""

        def move(connection: Connection) -> None:
            _close_phase(connection, key, now_ns)
            connection.execute(insert(schema.phases).values(**_phase_values(key, phase)))
            _change_open_round(connection, key, state=phase.phase.value)

        await self._run(move)

    async def append(self, key: RoundKey, messages: Sequence[Message]) -> None:
        """Add accepted messages to a round's log, all in one transaction."""
        rows = [
            {
                "task": key.task,
                "number": key.number,
                "attempt": key.attempt,
                "phase": message.phase.value,
                "client": message.client,
                "digest": message.digest,
                "payload": message.payload,
                "size_bytes": message.size_bytes,
            }
            for message in messages
        ]
        await self._run(lambda c: c.execute(insert(schema.messages), rows))

    async def messages(self, key: RoundKey) -> Sequence[Message]:
        """Read a round's log, in order of acceptance."""
        table = schema.messages
        query = select(table).where(_at(table, key)).order_by(table.c.sequence)
        return await self._run(lambda c: [_message(row) for row in c.execute(query)])

    async def message(self, key: RoundKey, phase: RoundState, client: str) -> Message | None:
        """Read the message that a client had accepted in a phase."""
        table = schema.messages
        query = select(table).where(
            _at(table, key), table.c.phase == phase.value, table.c.client == client
        )
        row = await self._run(lambda c: c.execute(query).one_or_none())
        return _message(row) if row else None

    async def decline(self, key: RoundKey, decline: Decline) -> None:
        """Keep a client's refusal; its first reason stays."""
        table = schema.declines

        def add(connection: Connection) -> None:
            there = select(table.c.client).where(_at(table, key), table.c.client == decline.client)
            if connection.execute(there).one_or_none() is None:
                connection.execute(insert(table).values(**asdict(key), **asdict(decline)))

        await self._run(add)

    async def declines(self, key: RoundKey) -> Sequence[Decline]:
        """Read who refused."""
        table = schema.declines
        query = select(table.c.client, table.c.reason).where(_at(table, key))
        return await self._run(
            lambda c: [Decline(row.client, row.reason) for row in c.execute(query)]
        )

    async def blame(self, key: RoundKey, blamed: Sequence[tuple[str, str]]) -> None:
        """Keep who broke the protocol so far."""
        pairs = [list(pair) for pair in blamed]
        await self._run(lambda c: _change_open_round(c, key, blamed=pairs))

    async def complete_round(
        self, record: RoundRecord, model: ModelRecord, task: TaskRecord
    ) -> None:
        """End a round with its model version and its task's new state; drop its payloads."""

        def complete(connection: Connection) -> None:
            _end_round(connection, record, task)
            connection.execute(insert(schema.models).values(**asdict(model)))

        await self._run(complete)

    async def abort_round(self, record: RoundRecord, task: TaskRecord) -> None:
        """End a round without a result, with its task's new state; drop its payloads."""
        await self._run(lambda connection: _end_round(connection, record, task))

    async def model(self, task: str, version: int | None) -> ModelRecord:
        """Read a model version, None for the newest; NotFoundError MODEL_NOT_FOUND."""
        table = schema.models
        query = select(table).where(table.c.task == task).order_by(table.c.version.desc()).limit(1)
        if version is not None:
            query = query.where(table.c.version == version)
        row = await self._run(lambda c: c.execute(query).one_or_none())
        if row is None:
            raise NotFoundError(
                "MODEL_NOT_FOUND",
                f"there is no such model version of {task}; ListModels names those that exist",
            )
        return ModelRecord(**row._mapping)

    async def models(self, task: str, *, after: int, limit: int) -> Sequence[ModelRecord]:
        """Read a task's versions, oldest first, those behind `after`."""
        table = schema.models
        query = (
            select(table)
            .where(table.c.task == task, table.c.version > after)
            .order_by(table.c.version)
            .limit(limit)
        )
        return await self._run(lambda c: [ModelRecord(**r._mapping) for r in c.execute(query)])

    async def _rounds(
        self, where: ColumnElement[bool], limit: int, *, newest_first: bool = False
    ) -> list[RoundRecord]:
        table = schema.rounds
        order = [table.c.number, table.c.attempt]
        query = (
            select(table)
            .where(where)
            .order_by(*([column.desc() for column in order] if newest_first else order))
            .limit(limit)
        )
        return await self._run(lambda c: [_round(c, row) for row in c.execute(query)])


def create_task(connection: Connection, task: TaskRecord) -> TaskRecord:
    """Add a task within a transaction; ConflictError TASK_EXISTS if its name is taken."""
    table = schema.tasks
    there = select(table.c.name).where(table.c.name == task.name)
    if connection.execute(there).one_or_none() is not None:
        raise ConflictError(
            "TASK_EXISTS", f"{task.name} exists already; tasks never change, choose another name"
        )
    connection.execute(insert(table).values(**_task_values(task)))
    return task


def cancel_task(connection: Connection, name: str) -> TaskRecord:
    """Cancel a task within a transaction; one that has ended stays as it is."""
    if not read_task(connection, name).state.ended:
        _change_task(
            connection,
            name,
            state=TaskState.CANCELLED.value,
            detail="an operator has cancelled the task",
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
    return _task(row)


def _at(table: Table, key: RoundKey) -> ColumnElement[bool]:
    return and_(
        table.c.task == key.task,
        table.c.number == key.number,
        table.c.attempt == key.attempt,
    )


def _change_task(connection: Connection, name: str, /, **values: Any) -> None:
    connection.execute(update(schema.tasks).where(schema.tasks.c.name == name).values(**values))


def _change_open_round(connection: Connection, key: RoundKey, **values: Any) -> None:
    ended = [state.value for state in RoundState if state.ended]
    changed = connection.execute(
        update(schema.rounds)
        .where(_at(schema.rounds, key), schema.rounds.c.state.not_in(ended))
        .values(**values)
    )
    if changed.rowcount != 1:
        raise StateError("STALE_ROUND", f"{key.name} is over")


def _close_phase(connection: Connection, key: RoundKey, now_ns: int) -> None:
    table = schema.phases
    connection.execute(
        update(table).where(_at(table, key), table.c.close_ns.is_(None)).values(close_ns=now_ns)
    )


def _end_round(connection: Connection, record: RoundRecord, task: TaskRecord) -> None:
    _close_phase(connection, record.key, record.end_ns or 0)
    values = _round_values(record)
    _change_open_round(connection, record.key, **values)
    # The log has served its purpose. What was revealed should not lie around; who spoke, how
    # much, and the digests that recognise a repeated message stay.
    connection.execute(
        update(schema.messages).where(_at(schema.messages, record.key)).values(payload=b"")
    )
    _change_task(connection, task.name, **_task_values(task))


def _task_values(task: TaskRecord) -> dict[str, Any]:
    values = asdict(task)
    del values["current"]
    return values | {
        "state": task.state.value,
        "current_number": task.current.number if task.current else None,
        "current_attempt": task.current.attempt if task.current else None,
    }


def _task(row: Row[Any]) -> TaskRecord:
    values = dict(row._mapping)
    number, attempt = values.pop("current_number"), values.pop("current_attempt")
    values["state"] = TaskState(values["state"])
    current = None if number is None else RoundKey(values["name"], number, attempt)
    return TaskRecord(**values, current=current)


def _round_values(record: RoundRecord) -> dict[str, Any]:
    return asdict(record.key) | {
        "kind": record.kind.value,
        "state": record.state.value,
        "nonce": record.nonce,
        "base_version": record.base_version,
        "invited": list(record.invited),
        "start_ns": record.start_ns,
        "end_ns": record.end_ns,
        "result_version": record.result_version,
        "abort_reason": record.abort_reason,
        "abort_detail": record.abort_detail[:1000],
        "blamed": [list(pair) for pair in record.blamed],
        "trustees": [asdict(answer) for answer in record.trustees],
        "metrics": asdict(record.metrics) if record.metrics else None,
    }


def _phase_values(key: RoundKey, phase: PhaseRecord) -> dict[str, Any]:
    return asdict(key) | asdict(phase) | {"phase": phase.phase.value}


def _round(connection: Connection, row: Row[Any]) -> RoundRecord:
    key = RoundKey(row.task, row.number, row.attempt)
    phases = [
        PhaseRecord(RoundState(p.phase), p.open_ns, p.deadline_ns, p.close_ns)
        for p in connection.execute(
            select(schema.phases).where(_at(schema.phases, key)).order_by(schema.phases.c.open_ns)
        )
    ]
    clients: dict[RoundState, list[str]] = {}
    received: dict[str, int] = {}
    log = schema.messages
    for message in connection.execute(
        select(log.c.phase, log.c.client, log.c.size_bytes)
        .where(_at(log, key))
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
        start_ns=row.start_ns,
        phases=tuple(sorted(phases, key=lambda p: list(RoundState).index(p.phase))),
        end_ns=row.end_ns,
        result_version=row.result_version,
        abort_reason=row.abort_reason,
        abort_detail=row.abort_detail,
        blamed=tuple((client, reason) for client, reason in row.blamed),
        trustees=tuple(TrusteeAnswer(**answer) for answer in row.trustees),
        metrics=_metrics(row.metrics),
        clients={phase: tuple(ids) for phase, ids in clients.items()},
        received_bytes=received,
    )


def _metrics(values: Mapping[str, Any] | None) -> RoundMetrics | None:
    return RoundMetrics(**values) if values else None


def _message(row: Row[Any]) -> Message:
    return Message(RoundState(row.phase), row.client, row.digest, row.payload, row.size_bytes)
