"""One audited sum on its way: waits for contributions, then lets trustees open their total.

All that it does follows from the store. After a restart it asks the trustees the same again.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from finsecure_crypto.errors import (
    AuthenticationError,
    FinSecureError,
    ProtocolViolationError,
    StateError,
    UnavailableError,
)
from finsecure_crypto.homomorphic.decryption import Contribution
from finsecure_rpc.federation_minima import Minima
from finsecure_rpc.logs import get_logger
from sqlalchemy import Connection

from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.ciphers import CipherSum, InputShape
from finsecure_aggregator.clock import Clock
from finsecure_aggregator.encryption import EncryptionDesk, HeldKey, Opening
from finsecure_aggregator.opening import SumOpener
from finsecure_aggregator.store import Store
from finsecure_aggregator.sums import convert, store
from finsecure_aggregator.sums.plan import SumPlan, SumRules
from finsecure_aggregator.sums.records import Excluded, SumRecord, SumState
from finsecure_aggregator.verifier import PeerVerifier
from finsecure_aggregator.watchers import Changes

_PAUSE_NS = 2 * 10**9
_TOO_SMALL = "SUM_GROUP_TOO_SMALL"

_log = get_logger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What all audited sums share.

    Attributes:
        store: durable state.
        blobs: files.
        clock: time.
        changes: wakes whoever watches a sum.
        verifier: checks members' signing certificates.
        encryption: keys, workers and trustees.
        rules: of this aggregator's operator.
        minima: what the federation demands of cohorts.
        adding: how many sums are added up at the same time.
    """

    store: Store
    blobs: Blobs
    clock: Clock
    changes: Changes
    verifier: PeerVerifier
    encryption: EncryptionDesk
    rules: SumRules
    minima: Minima
    adding: asyncio.Semaphore

    async def start_opening(self, plan: SumPlan) -> Callable[[Connection], SumRecord]:
        """Find out whose membership has ended, and prepare the transaction that ends collecting.

        Raises:
            AuthenticationError: REVOCATION_LIST_STALE; nothing can be said now.
            FinSecureError: what `minimum` raises.
        """
        manifest = await self.store.transact(lambda c: store.manifest(c, plan.name))
        excluded = await asyncio.to_thread(self._unfit, manifest)
        deadline_ns = self.clock.now_ns() + plan.opening_ns
        minimum = await self.minimum(plan)
        return lambda c: store.start_opening(c, plan.name, minimum, excluded, deadline_ns)

    async def minimum(self, plan: SumPlan) -> int:
        """The fewest contributors, as sum, aggregator and federation demand now.

        Raises:
            FinSecureError: what the federation demands is not known, or not to be believed.
        """
        demanded = await self.minima.current()
        return max(plan.terms.minimum_contributors, self.rules.minimum_contributors, demanded.sums)

    def _unfit(self, manifest: Sequence[Contribution]) -> Collection[Excluded]:
        """Find those whose certificates trustees would refuse."""
        found = []
        for each in manifest:
            try:
                self.verifier.verify(each.client, each.certificate)
            except AuthenticationError as error:
                if not error.code.startswith("CERTIFICATE_"):
                    raise
                found.append(Excluded(each.client, error.code))
        return found


class SumRunner:
    """Runs one sum until it ends.

    Args:
        around: what all sums share.
        name: resource name of the sum.
    """

    def __init__(self, around: Surroundings, name: str) -> None:
        self._around = around
        self._name = name
        self._turn = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, done: Callable[[], object]) -> None:
        """Run in the background; `done` is called at the end."""
        self._task = asyncio.create_task(self._run(), name=self._name)
        self._task.add_done_callback(lambda _: done())

    def look(self) -> None:
        """The sum's state was changed: act on it."""
        self._turn.set()

    async def stop(self) -> None:
        """Stop; whatever was not finished goes on from the store at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            try:
                self._turn.clear()
                record = await self._around.store.transact(lambda c: store.read(c, self._name))
                if record.state.ended:
                    break
                plan = convert.plan(record.name, record.spec)
                if record.state is SumState.COLLECTING:
                    await self._collect(record, plan)
                else:
                    await self._open(record, plan)
            except Exception:
                # Nothing is lost: begin again from the store.
                _log.exception("sum_step_failed", sum=self._name)
                await self._pause()
            self._around.changes.notify(self._name)
        await asyncio.to_thread(self._around.blobs.drop_sum, self._name)

    async def _pause(self) -> None:
        clock = self._around.clock
        await clock.wait(asyncio.Event(), clock.now_ns() + _PAUSE_NS)

    async def _collect(self, record: SumRecord, plan: SumPlan) -> None:
        clock = self._around.clock
        await clock.wait(self._turn, record.collecting_ns)
        if clock.now_ns() < record.collecting_ns:
            return
        try:
            await self._around.store.transact(await self._around.start_opening(plan))
        except StateError as error:
            if error.code == _TOO_SMALL:
                await self._end(SumState.FAILED, error)

    async def _open(self, record: SumRecord, plan: SumPlan) -> None:
        around, clock = self._around, self._around.clock
        folder = around.blobs.sum_folder(self._name)
        deadline_ns = record.opening_ns or clock.now_ns()
        opener: SumOpener | None = None
        try:
            key = await around.encryption.keys.key(plan.terms.key_name)
            opener = SumOpener(around.encryption, key, plan.terms.layout(), folder, clock)
            opening = await self._opening(record, plan, key)
            sums = await opener.open(opening, folder / "total", deadline_ns)
        except UnavailableError as error:
            if clock.now_ns() >= deadline_ns:
                await self._end(SumState.FAILED, error, opener)
            else:
                await self._pause()
        except ProtocolViolationError as error:
            await self._leave_out(plan, error, opener)
        except FinSecureError as error:
            await self._end(SumState.FAILED, error, opener)
        else:
            await self._end(SumState.OPENED, None, opener, plan.terms.totals(sums))

    async def _opening(self, record: SumRecord, plan: SumPlan, key: HeldKey) -> Opening:
        """Add up, and make the request; everything in it follows from the store."""
        around = self._around
        everybody = await around.store.transact(lambda c: store.manifest(c, self._name))
        out = {each.client for each in record.excluded}
        manifest = [each for each in everybody if each.client not in out]
        inputs = [
            around.blobs.contribution_path(self._name, each.client, each.sha256)
            for each in manifest
        ]
        shape = InputShape(record.ciphertext_bytes, record.input_bytes, 0.0)
        total = around.blobs.sum_folder(self._name) / "total"
        async with around.adding:
            adder = CipherSum(around.encryption.workers, key.file, shape)
            try:
                await asyncio.to_thread(adder.add, inputs)
                sha256 = await asyncio.to_thread(adder.write, total)
            finally:
                await asyncio.to_thread(adder.close)
        return Opening.of(plan.binding(record), manifest, inputs, record.input_bytes, sha256)

    async def _leave_out(
        self, plan: SumPlan, refusal: ProtocolViolationError, opener: SumOpener | None
    ) -> None:
        """Take out a member whose contribution trustees refuse; the sum fails if too few are left.

        On the disk before anybody is asked again, so that the next request is the same after a
        restart.
        """
        out = [Excluded(str(refusal.culprit), refusal.code)]
        minimum = await self._around.minimum(plan)
        try:
            await self._around.store.transact(lambda c: store.exclude(c, self._name, minimum, out))
        except StateError as error:
            await self._end(SumState.FAILED, error, opener)

    async def _end(
        self,
        state: SumState,
        error: FinSecureError | None,
        opener: SumOpener | None = None,
        totals: Sequence[int] | None = None,
    ) -> None:
        trustees = opener.answers() if opener is not None else ()
        now_ns = self._around.clock.now_ns()
        reason, detail = (error.code, error.message) if error is not None else ("", "")
        await self._around.store.transact(
            lambda c: store.end(
                c,
                self._name,
                state,
                now_ns,
                reason=reason,
                detail=detail,
                trustees=trustees,
                totals=totals,
            )
        )
        _log.info("sum_ended", sum=self._name, state=state.value, reason=reason)
