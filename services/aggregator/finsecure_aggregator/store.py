"""What the aggregator must not forget, in an SQL database.

A method has committed when it returns. Those that take part in one decision are one transaction,
so a killed process leaves either all of it or nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Protocol, TypeVar

from finsecure_crypto.errors import ConflictError, NotFoundError, StateError
from sqlalchemy import ColumnElement, Connection, func, insert, select

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
)
from finsecure_aggregator.rows import (
    message_of,
    message_values,
    phase_values,
    round_values,
    task_of,
)
from finsecure_aggregator.transactions import (
    at_round,
    change_open_round,
    change_task,
    close_phase,
    end_round,
    read_round,
    read_task,
)

T = TypeVar("T")


class Transactor(Protocol):
    """Runs functions in transactions, off the event loop (`finsecure_rpc.database.Database`)."""

    async def run(self, function: Callable[[Connection], T]) -> T:
        """Commit what `function` does with the connection, or nothing of it."""
        ...


class Store:
    """The aggregator's durable state.

    Args:
        database: runs the transactions.
    """

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
        return await self._run(lambda c: [task_of(row) for row in c.execute(query)])

    async def unfinished_tasks(self) -> Sequence[TaskRecord]:
        """Read all tasks that run, or were cancelled while a round was open."""
        table = schema.tasks
        running = table.c.state == TaskState.RUNNING.value
        query = select(table).where(running | table.c.current_number.is_not(None))
        return await self._run(lambda c: [task_of(row) for row in c.execute(query)])

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
            change_task(
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
            connection.execute(insert(schema.rounds).values(**round_values(record)))
            for phase in record.phases:
                connection.execute(insert(schema.phases).values(**phase_values(key, phase)))
            change_task(
                connection,
                key.task,
                current_number=key.number,
                current_attempt=key.attempt,
                next_round_ns=None,
            )

        await self._run(add)

    async def round(self, key: RoundKey) -> RoundRecord:
        """Read a round; NotFoundError ROUND_NOT_FOUND."""
        rows = await self._rounds(at_round(schema.rounds, key), 1)
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
            close_phase(connection, key, now_ns)
            connection.execute(insert(schema.phases).values(**phase_values(key, phase)))
            change_open_round(connection, key, state=phase.phase.value)

        await self._run(move)

    async def append(self, key: RoundKey, messages: Sequence[Message]) -> None:
        """Add accepted messages to a round's log, all in one transaction."""
        rows = [message_values(key, message) for message in messages]
        await self._run(lambda c: c.execute(insert(schema.messages), rows))

    async def messages(self, key: RoundKey) -> Sequence[Message]:
        """Read a round's log, in order of acceptance."""
        table = schema.messages
        query = select(table).where(at_round(table, key)).order_by(table.c.sequence)
        return await self._run(lambda c: [message_of(row) for row in c.execute(query)])

    async def message(self, key: RoundKey, phase: RoundState, client: str) -> Message | None:
        """Read the message that a client had accepted in a phase."""
        table = schema.messages
        query = select(table).where(
            at_round(table, key), table.c.phase == phase.value, table.c.client == client
        )
        row = await self._run(lambda c: c.execute(query).one_or_none())
        return message_of(row) if row else None

    async def decline(self, key: RoundKey, decline: Decline) -> None:
        """Keep a client's refusal; its first reason stays."""
        table = schema.declines

        def add(connection: Connection) -> None:
            there = select(table.c.client).where(
                at_round(table, key), table.c.client == decline.client
            )
            if connection.execute(there).one_or_none() is None:
                connection.execute(insert(table).values(**asdict(key), **asdict(decline)))

        await self._run(add)

    async def declines(self, key: RoundKey) -> Sequence[Decline]:
        """Read who refused."""
        table = schema.declines
        query = select(table.c.client, table.c.reason).where(at_round(table, key))
        return await self._run(
            lambda c: [Decline(row.client, row.reason) for row in c.execute(query)]
        )

    async def blame(self, key: RoundKey, blamed: Sequence[tuple[str, str]]) -> None:
        """Keep who broke the protocol so far."""
        pairs = [list(pair) for pair in blamed]
        await self._run(lambda c: change_open_round(c, key, blamed=pairs))

    async def complete_round(
        self, record: RoundRecord, model: ModelRecord, task: TaskRecord
    ) -> None:
        """End a round with its model version and its task's new state; drop its payloads."""

        def complete(connection: Connection) -> None:
            end_round(connection, record, task)
            connection.execute(insert(schema.models).values(**asdict(model)))

        await self._run(complete)

    async def abort_round(self, record: RoundRecord, task: TaskRecord) -> None:
        """End a round without a result, with its task's new state; drop its payloads."""
        await self._run(lambda connection: end_round(connection, record, task))

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
        return await self._run(lambda c: [read_round(c, row) for row in c.execute(query)])
