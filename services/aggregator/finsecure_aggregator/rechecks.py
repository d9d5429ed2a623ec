"""Stored model versions are read again, every hour: what no longer fits is put in quarantine."""

import asyncio

from finsecure_crypto.errors import IntegrityError, NotFoundError
from finsecure_rpc.logs import get_logger

from finsecure_aggregator.models import ModelKeeper
from finsecure_aggregator.quarantine import Quarantine
from finsecure_aggregator.records import ModelRecord
from finsecure_aggregator.surroundings import Surroundings
from finsecure_aggregator.wire.tasks import plan_of

_log = get_logger(__name__)
_PAGE = 100


class Rechecks:
    """Looks at every version of every task, at the start and again after each interval.

    Versions that should have been signed by a managed key, and are not yet, are tried again too.

    Args:
        around: store, clock and endorsements.
        models: reads the files.
        quarantine: where what does not fit goes.
        interval_ns: between the end of a sweep and the next one.
    """

    def __init__(
        self, around: Surroundings, models: ModelKeeper, quarantine: Quarantine, interval_ns: int
    ) -> None:
        self._store = around.store
        self._clock = around.clock
        self._endorsements = around.endorsements
        self._models = models
        self._quarantine = quarantine
        self._interval_ns = interval_ns

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
            except Exception:
                _log.exception("recheck_failed")
            await self._clock.wait(asyncio.Event(), self._clock.now_ns() + self._interval_ns)

    async def sweep(self) -> int:
        """Check all versions that are not in quarantine yet; returns how many had to go there."""
        found, checked, task = 0, 0, ""
        while tasks := await self._store.tasks(after=task, limit=_PAGE):
            task = tasks[-1].name
            for each in tasks:
                version = -1
                while page := await self._store.models(each.name, after=version, limit=_PAGE):
                    version = page[-1].version
                    for record in page:
                        checked += 1
                        if self._quarantine.reason(record):
                            continue
                        if await self.check(record):
                            plan = plan_of(each.name, each.spec)
                            await self._endorsements.attempt(plan, record)
                        else:
                            found += 1
        _log.info("models_rechecked", versions=checked, quarantined=found)
        return found

    async def recheck(self, record: ModelRecord) -> ModelRecord:
        """Check one version for its operator, and have it signed anew if there is a key for that.

        Raises:
            As `Endorsements.renew`.
        """
        if not await self.check(record):
            return record
        task = await self._store.task(record.task)
        return await self._endorsements.renew(plan_of(task.name, task.spec), record)

    async def check(self, record: ModelRecord) -> bool:
        """Check one version: into quarantine if it does not fit, out of it if it does."""
        try:
            await asyncio.to_thread(self._models.check, record)
        except (IntegrityError, NotFoundError) as error:
            _log.error("model_quarantined", model=record.name, reason=error.code)
            await self._quarantine.add(record, error.code, now_ns=self._clock.now_ns())
            return False
        if self._quarantine.reason(record):
            _log.warning("model_released", model=record.name)
            await self._quarantine.release(record)
        return True
