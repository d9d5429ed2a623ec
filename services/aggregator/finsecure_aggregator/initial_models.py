"""The upload of a task's initial model, by which the task begins."""

import asyncio
from collections.abc import AsyncIterator

from finsecure_crypto.errors import ConflictError, IntegrityError, InvalidArgumentError

from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.clock import Clock
from finsecure_aggregator.endorsements import Endorsements
from finsecure_aggregator.models import ModelKeeper, largest_file
from finsecure_aggregator.plan import Plan
from finsecure_aggregator.records import ModelRecord, TaskState
from finsecure_aggregator.scheduler import Scheduler
from finsecure_aggregator.store import Store
from finsecure_aggregator.uploads import Piece


class InitialModels:
    """Receives initial models.

    Args:
        store: durable state.
        blobs: files.
        models: checks and keeps versions.
        scheduler: runs the task once it has its model.
        clock: time.
        endorsements: have them signed by a managed key.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        models: ModelKeeper,
        scheduler: Scheduler,
        clock: Clock,
        endorsements: Endorsements,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._models = models
        self._scheduler = scheduler
        self._clock = clock
        self._endorsements = endorsements
        self._lock = asyncio.Lock()

    async def receive(
        self, plan: Plan, size_bytes: int, sha256: bytes, pieces: AsyncIterator[Piece]
    ) -> ModelRecord:
        """Take an upload; the same file again gets the same answer.

        Raises:
            InvalidArgumentError: MODEL_TOO_LARGE, or what `ModelKeeper.first` refuses.
            IntegrityError: UPLOAD_TRUNCATED, or what `PartFile` refuses; nothing is kept.
            ConflictError: MODEL_EXISTS, for another file than the task has.
        """
        there = await self._existing(plan.name, sha256)
        if there is not None:
            return there
        if size_bytes > largest_file(plan):
            raise InvalidArgumentError(
                "MODEL_TOO_LARGE",
                f"the upload has {size_bytes} bytes; a float32 model of this task has at most "
                f"{largest_file(plan)}",
            )
        part = await asyncio.to_thread(self._blobs.open_incoming, size_bytes, sha256)
        try:
            async for piece in pieces:
                await asyncio.to_thread(part.append, piece.offset, piece.content, piece.crc32)
            if not part.whole:
                raise IntegrityError(
                    "UPLOAD_TRUNCATED",
                    f"the upload ended after {part.length} of {size_bytes} bytes; send it again",
                )
            path = await asyncio.to_thread(part.finish)
            async with self._lock:
                return await self._keep(plan, await asyncio.to_thread(path.read_bytes), sha256)
        finally:
            await asyncio.to_thread(part.discard)

    async def _keep(self, plan: Plan, content: bytes, sha256: bytes) -> ModelRecord:
        there = await self._existing(plan.name, sha256)
        if there is not None:
            return there
        now_ns = self._clock.now_ns()
        model = await asyncio.to_thread(self._models.first, plan, content, now_ns=now_ns)
        await self._store.add_initial_model(model, now_ns=now_ns)
        await self._endorsements.attempt(plan, model)
        self._scheduler.add(plan.name)
        return model

    async def _existing(self, task: str, sha256: bytes) -> ModelRecord | None:
        record = await self._store.task(task)
        if record.latest_version is None:
            if record.state is not TaskState.AWAITING_MODEL:
                raise ConflictError("TASK_ENDED", f"{task} has ended; create a new task")
            return None
        model = await self._store.model(task, 0)
        if model.sha256 != sha256:
            raise ConflictError(
                "MODEL_EXISTS",
                f"{task} has another initial model already; create another task for this one",
            )
        return self._models.refreshed(model)
