"""One task that runs: opens its rounds when they are due, and turns their ends into progress.

Whatever a runner does follows from the store, so after a restart it picks up the round that was
open.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from random import SystemRandom

from finsecure_crypto.errors import FinSecureError, StateError, UnavailableError
from finsecure_crypto.federation import RoundKind, statistics_result, training_result
from finsecure_rpc.logs import get_logger

from finsecure_aggregator import progress
from finsecure_aggregator.gathering import Gathering, Need, Pace
from finsecure_aggregator.instructions import Invitation
from finsecure_aggregator.models import ModelKeeper
from finsecure_aggregator.plan import Plan
from finsecure_aggregator.protocols import open_protocol
from finsecure_aggregator.records import (
    ModelRecord,
    PhaseRecord,
    RoundKey,
    RoundRecord,
    RoundState,
    TaskRecord,
    TaskState,
)
from finsecure_aggregator.round_protocol import WORKERS_LOST, Sums
from finsecure_aggregator.rounds import RoundDriver
from finsecure_aggregator.surroundings import Surroundings
from finsecure_aggregator.wire.tasks import plan_of

_INTERNAL_WAIT_NS = 2 * 10**9
_INTERNAL_TRIES = 3
_MOST_LOSSES = 5  # of workers over one attempt

_log = get_logger(__name__)


class TaskRunner:
    """Runs one task until it ends.

    Attributes:
        driver: of the open round; None between rounds.
    """

    def __init__(
        self,
        around: Surroundings,
        models: ModelKeeper,
        pace: Pace,
        task: str,
        ended: Callable[[RoundRecord], None],
    ) -> None:
        self.driver: RoundDriver | None = None
        self._around = around
        self._models = models
        self._gathering = Gathering(around, pace)
        self._task = task
        self._ended = ended
        self._cancelled = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._failures = 0
        self._losses = 0

    @property
    def need(self) -> Need | None:
        """What the next round needs, as of the last look."""
        return self._gathering.need

    def start(self, done: Callable[[], object]) -> None:
        """Run in the background; `done` is called at the end."""
        self._runner = asyncio.create_task(self._run(), name=self._task)
        self._runner.add_done_callback(lambda _: done())

    def cancel(self) -> None:
        """The task was cancelled: abort its open round and end."""
        self._cancelled.set()
        if self.driver is not None:
            self.driver.abort("TASK_CANCELLED", "an operator has cancelled the task")
        self._around.changes.notify(self._task)

    async def stop(self) -> None:
        """End without touching the open round."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait({self._runner})

    async def _run(self) -> None:
        while True:
            try:
                task = await self._around.store.task(self._task)
                if task.current is None and task.state is not TaskState.RUNNING:
                    return
                plan = plan_of(task.name, task.spec)
                key = task.current or await self._open(task, plan)
                if key is not None:
                    await self._round(key, plan)
                self._failures = self._losses = 0
            except Exception:
                # Nothing is lost: the log has it. Whatever it was, begin again from the log.
                self._failures += 1
                self.driver = None
                _log.exception("task_step_failed", task=self._task, failures=self._failures)
                await self._pause(_INTERNAL_WAIT_NS << self._losses)

    async def _pause(self, wait_ns: int) -> None:
        clock = self._around.clock
        await clock.wait(asyncio.Event(), clock.now_ns() + wait_ns)

    # --- between rounds --------------------------------------------------------------------

    async def _open(self, task: TaskRecord, plan: Plan) -> RoundKey | None:
        """Wait until the next round is due and enough clients are there; open it."""
        gathered = await self._gathering.gather(task, plan, self._cancelled.is_set)
        if gathered is None:
            return None
        store = self._around.store
        base = await store.model(task.name, task.latest_version)
        await self._around.endorsements.ensure(plan, base)
        now_ns = self._around.clock.now_ns()
        number = progress.next_number(task, plan)
        key = RoundKey(task.name, number, await store.attempts(task.name, number) + 1)
        clients = sorted(gathered.clients)
        chosen = SystemRandom().sample(clients, min(plan.maximum_cohort, len(clients)))
        first = plan.phases[0]
        phase = PhaseRecord(first, now_ns, now_ns + plan.deadlines_ns[first])
        record = RoundRecord(
            key=key,
            kind=progress.kind_of(number),
            state=first,
            nonce=secrets.token_bytes(32),
            base_version=task.latest_version or 0,
            invited=tuple(sorted(chosen)),
            minimum_cohort=gathered.minimum_cohort,
            start_ns=now_ns,
            phases=(phase,),
        )
        try:
            await store.open_round(record)
        except StateError:
            return None  # cancelled meanwhile
        _log.info("round_opened", round=key.name, invited=len(chosen))
        return key

    # --- a round ---------------------------------------------------------------------------

    async def _round(self, key: RoundKey, plan: Plan) -> None:
        store = self._around.store
        record = await store.round(key)
        task = await store.task(key.task)
        base = self._models.refreshed(await store.model(key.task, record.base_version))
        try:
            protocol = await open_protocol(self._around, plan, Invitation(task, record, base))
        except FinSecureError as error:
            if self._may_pass(error):
                raise
            await self._abort(record, error.code, error.message)
            return
        driver = RoundDriver(self._around, plan, record, base, protocol)
        try:
            if task.state is TaskState.CANCELLED:
                raise StateError("TASK_CANCELLED", "an operator has cancelled the task")
            self._models.require_free(base)
            await driver.resume()
            self.driver = driver
            if self._cancelled.is_set():
                self.cancel()
            self._around.changes.notify(key.task)
            self._around.turns.notify(key.task)
            await self._complete(driver, await driver.run())
        except FinSecureError as error:
            if self._may_pass(error):
                raise
            await self._abort(driver.record_so_far(), error.code, error.message)
        except Exception:
            if self._failures + 1 < _INTERNAL_TRIES:
                raise
            _log.exception("round_failed", round=key.name)
            await self._abort(
                driver.record_so_far(),
                "INTERNAL_ERROR",
                "the aggregator failed while it worked on the round; its log says why",
            )
        finally:
            self.driver = None
            await driver.close()
        self._around.changes.notify(key.task)
        await asyncio.to_thread(self._around.blobs.drop_inputs, key)

    def _may_pass(self, error: FinSecureError) -> bool:
        """Whether the attempt is worth another try from its log.

        Workers that are lost again and again over one attempt may be lost over what lies in it, and
        another attempt has other inputs.
        """
        if error.code == WORKERS_LOST:
            self._losses += 1
            return self._losses < _MOST_LOSSES
        return isinstance(error, UnavailableError)

    async def _complete(self, driver: RoundDriver, sums: Sums) -> None:
        store, record, plan = self._around.store, driver.record_so_far(), driver.plan
        interpret = statistics_result if record.kind is RoundKind.STATISTICS else training_result
        result = interpret(plan.terms, sums)
        # The time of the phase, not of now: a repetition after a crash makes the same version.
        made_ns = record.phases[-1].open_ns
        model: ModelRecord = await asyncio.to_thread(
            self._models.next, plan, driver.base_model, result, key=record.key, now_ns=made_ns
        )
        end_ns = self._around.clock.now_ns()
        record = replace(
            record,
            state=RoundState.COMPLETED,
            end_ns=end_ns,
            result_version=model.version,
            metrics=result.metrics,
        )
        before = await store.task(record.key.task)
        task = progress.after_success(
            before,
            plan,
            kind=record.kind,
            metrics=result.metrics,
            version=model.version,
            start_ns=record.start_ns,
            end_ns=end_ns,
        )
        if before.state.ended:  # cancelled while the sum was being made
            task = replace(task, state=before.state, detail=before.detail, next_round_ns=None)
        await store.complete_round(record, model, task)
        await self._around.endorsements.attempt(plan, model)
        self._ended(record)
        _log.info("round_completed", round=record.key.name, model=model.name)
        await asyncio.to_thread(
            self._models.forget_state, record.key.task, driver.base_model.version - 1
        )

    async def _abort(self, record: RoundRecord, reason: str, detail: str) -> None:
        store, key = self._around.store, record.key
        end_ns = self._around.clock.now_ns()
        record = replace(
            record,
            state=RoundState.ABORTED,
            end_ns=end_ns,
            abort_reason=reason,
            abort_detail=detail,
        )
        task = progress.after_abort(
            await store.task(key.task),
            number=key.number,
            attempts=key.attempt,
            reason=reason,
            detail=detail,
            end_ns=end_ns,
        )
        await store.abort_round(record, task)
        self._ended(record)
        _log.warning("round_aborted", round=key.name, reason=reason, detail=detail)
