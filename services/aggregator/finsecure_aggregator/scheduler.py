"""Runs all tasks of the aggregator, and finds the open round that a message is for."""

import asyncio

from finsecure_aggregator.gathering import Need, Pace
from finsecure_aggregator.instructions import Instruction, Outcome
from finsecure_aggregator.models import ModelKeeper
from finsecure_aggregator.records import RoundKey, RoundRecord
from finsecure_aggregator.rounds import RoundDriver
from finsecure_aggregator.surroundings import Surroundings
from finsecure_aggregator.task_runner import TaskRunner


class Scheduler:
    """Runs all tasks.

    Args:
        around: what all rounds share.
        models: makes model versions.
        pace: how to wait.
    """

    def __init__(self, around: Surroundings, models: ModelKeeper, pace: Pace) -> None:
        self._around = around
        self._models = models
        self._pace = pace
        self._runners: dict[str, TaskRunner] = {}
        self._last_ended: dict[str, RoundRecord | None] = {}

    async def start(self) -> None:
        """Pick up all tasks that run, and delete inputs that nobody waits for."""
        tasks = await self._around.store.unfinished_tasks()
        open_rounds = frozenset(task.current for task in tasks if task.current is not None)
        await asyncio.to_thread(self._around.blobs.keep_inputs_of, open_rounds)
        for task in tasks:
            self.add(task.name)

    def add(self, task: str) -> None:
        """Run a task, if it is not running already."""
        if task not in self._runners:
            runner = TaskRunner(self._around, self._models, self._pace, task, self._ended)
            self._runners[task] = runner
            runner.start(lambda: self._runners.pop(task, None))

    def driver(self, key: RoundKey) -> RoundDriver | None:
        """The driver of a round that is open now."""
        runner = self._runners.get(key.task)
        if runner is None or runner.driver is None or runner.driver.key != key:
            return None
        return runner.driver

    def need(self, task: str) -> Need | None:
        """What the next round of a task needs, if that has been looked at."""
        runner = self._runners.get(task)
        return None if runner is None else runner.need

    async def instructions(self, task: str, client: str) -> list[Instruction]:
        """What a task tells a client now: how the last round ended, and what the open one wants."""
        found = []
        last = await self._last(task)
        if last is not None and client in last.invited:
            outcome = Outcome(last.state, last.abort_reason, last.abort_detail)
            found.append(Instruction(last.key, last.state, last.end_ns or 0, outcome))
        runner = self._runners.get(task)
        if runner is not None and runner.driver is not None:
            open_ = runner.driver.instruction(client)
            if open_ is not None:
                found.append(open_)
        return found

    async def cancel(self, task: str) -> None:
        """Abort the open round of a task that an operator has ended, and stop its runner."""
        runner = self._runners.get(task)
        if runner is not None:
            runner.cancel()
        self._around.changes.notify(task)

    async def stop(self) -> None:
        """Stop all runners; open rounds stay open in the store."""
        runners = list(self._runners.values())
        for runner in runners:
            await runner.stop()

    async def _last(self, task: str) -> RoundRecord | None:
        if task not in self._last_ended:
            record = await self._around.store.last_ended_round(task)
            # Clients may name tasks that do not exist; remember only what does.
            if record is None and task not in self._runners:
                return None
            self._last_ended.setdefault(task, record)
        return self._last_ended[task]

    def _ended(self, record: RoundRecord) -> None:
        self._last_ended[record.key.task] = record
        self._around.changes.notify(record.key.task)
        self._around.turns.notify(record.key.task)
