"""One round: folds the log of accepted messages into the protocol core's phases, and drives them.

A message is checked by the core, committed to the log, and only then acknowledged. After a
restart the same messages in the same order lead to the same state, so the round goes on where it
was; deadlines come from the stored times of the phases.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from finsecure_crypto.errors import Fault, FinSecureError, PermissionDeniedError, StateError
from finsecure_crypto.federation import round_parameters
from finsecure_crypto.secagg.messages import MaskedInputHeader
from finsecure_crypto.secagg.server import (
    CollectAdvertisements,
    CollectConfirmations,
    CollectInputs,
    CollectReveals,
    CollectShares,
    Unmasking,
)
from numpy.typing import NDArray

from finsecure_aggregator import convert
from finsecure_aggregator.accumulator import Accumulator
from finsecure_aggregator.batches import Batches
from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.clock import Clock
from finsecure_aggregator.convert import Body, Instruction, Invitation
from finsecure_aggregator.plan import Plan
from finsecure_aggregator.records import (
    PHASES,
    Decline,
    Message,
    ModelRecord,
    PhaseRecord,
    RoundKey,
    RoundRecord,
    RoundState,
    TaskRecord,
)
from finsecure_aggregator.slices import Slices
from finsecure_aggregator.store import Store
from finsecure_aggregator.verifier import PeerVerifier
from finsecure_aggregator.watchers import Changes, Presence

_MOST_TOGETHER = 256  # messages of one commit; a client waits for those before it

T = TypeVar("T")
Collecting = (
    CollectAdvertisements | CollectShares | CollectInputs | CollectConfirmations | CollectReveals
)


@dataclass(frozen=True)
class RoundSum:
    """What a round has added up.

    Attributes:
        sums: decoded sections of the vector.
        blamed: (client id, reason code) of clients that broke the protocol.
    """

    sums: Mapping[str, NDArray[Any]]
    blamed: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Surroundings:
    """What every round of the process shares.

    Attributes:
        store: durable state.
        blobs: files.
        clock: time.
        changes: wakes whoever watches a task.
        turns: wakes the clients' streams.
        presence: who is connected.
        verifier: checks clients' signing certificates.
        grace_ns: how long a phase waits for a client that has lost its connection, once enough
            others have answered.
        slices: where masked inputs are summed.
    """

    store: Store
    blobs: Blobs
    clock: Clock
    changes: Changes
    turns: Changes
    presence: Presence
    verifier: PeerVerifier
    grace_ns: int
    slices: Slices


@dataclass(frozen=True)
class _Said:
    """What a client said in a phase; `size_bytes` None means that it is only to be checked."""

    phase: RoundState
    client: str
    payload: bytes
    size_bytes: int | None


class RoundDriver:
    """Drives one round from wherever its log says it is.

    Args:
        around: what all rounds share.
        task: as it was when the round started.
        plan: its terms.
        record: of the round.
        base_model: that it starts from.
    """

    def __init__(
        self,
        around: Surroundings,
        task: TaskRecord,
        plan: Plan,
        record: RoundRecord,
        base_model: ModelRecord,
    ) -> None:
        self.record = record
        self.plan = plan
        self.base_model = base_model
        self._around = around
        self._task = task
        self._parameters = round_parameters(
            plan.terms,
            task_name=plan.name,
            spec=plan.spec,
            kind=record.kind,
            number=record.key.number,
            attempt=record.key.attempt,
            attempt_nonce=record.nonce,
            model_digest=base_model.sha256,
            invited=len(record.invited),
        )
        self._verify = around.verifier.for_round()
        self._collector: Collecting = CollectAdvertisements(
            self._parameters, frozenset(record.invited), self._verify
        )
        self._unmasking: Unmasking | None = None
        self._accumulator = Accumulator(self._parameters.layout.words, around.slices)
        self._accepted: dict[RoundState, set[str]] = {phase: set() for phase in PHASES}
        self._invited = frozenset(record.invited)
        self._declined: set[str] = set()
        self._missing: set[str] = set(record.invited)  # who may still answer in the open phase
        self._blamed: list[tuple[str, str]] = list(record.blamed)
        self._said: Batches[_Said, bool] = Batches(self._hear, _MOST_TOGETHER)
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        # One thread sums; others that waited for it would be missed elsewhere.
        self._folding: Batches[Path, None] = Batches(self._fold_inputs, _MOST_TOGETHER)
        self._folds: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    @property
    def key(self) -> RoundKey:
        """Which round it is."""
        return self.record.key

    @property
    def blamed(self) -> tuple[tuple[str, str], ...]:
        """(client id, reason code) of clients that broke the protocol so far."""
        return tuple(self._blamed)

    async def resume(self) -> None:
        """Fold the log; nothing to do for a round that has just been opened.

        Raises:
            FinSecureError: if the log or a masked input is damaged.
        """
        messages = await self._around.store.messages(self.key)
        declines = await self._around.store.declines(self.key)
        await asyncio.to_thread(self._fold, messages)
        for decline in declines:
            self._withdraw(decline.client)
        self._await_all()

    def _fold(self, messages: Sequence[Message]) -> None:
        # What lies in the log was verified when it came in; a certificate that has expired or was
        # revoked meanwhile does not undo the acceptance.
        with self._verify.trusting():
            for phase in self.record.phases:
                for message in messages:
                    if message.phase is phase.phase:
                        said = convert.client_message(phase.phase, message.payload)
                        self._core_accept(message.client, said)
                        self._accepted[message.phase].add(message.client)
                if phase.close_ns is not None:
                    self._turn(phase.phase)
        inputs = sorted(self._accepted[RoundState.SUBMIT_INPUT])
        self._accumulator.add_input(
            *(self._around.blobs.input_path(self.key, client) for client in inputs)
        )

    def _turn(self, phase: RoundState) -> None:
        closed = self._collector.close()
        if phase is RoundState.REVEAL_SHARES:
            assert isinstance(closed, Unmasking)  # noqa: S101  # for the type checker
            self._unmasking = closed
            self._blamed += [
                pair for b in closed.blamed if (pair := (b.client, b.reason)) not in self._blamed
            ]
        else:
            assert not isinstance(closed, Unmasking)  # noqa: S101  # for the type checker
            self._collector = closed

    # --- what clients send -----------------------------------------------------------------

    async def accept(
        self, phase: RoundState, client: str, payload: bytes, *, size_bytes: int
    ) -> None:
        """Take a client's message; it is on disk when this returns.

        Args:
            phase: that the message belongs to.
            client: the authenticated sender.
            payload: the serialised request.
            size_bytes: what the client has sent for it, for the record.

        Raises:
            StateError: WRONG_PHASE, STALE_ROUND or ROUND_DECLINED; the sender is late.
            PermissionDeniedError: CLIENT_NOT_EXPECTED.
            ProtocolViolationError: what the core refuses, DUPLICATE_MESSAGE among it; the
                sender's fault, and it is recorded.
        """
        await self._said.put(_Said(phase, client, payload, size_bytes))

    async def check(self, phase: RoundState, client: str, payload: bytes) -> bool:
        """Whether a message would be accepted; False if it has been already.

        Raises:
            FinSecureError: as `accept`.
        """
        return await self._said.put(_Said(phase, client, payload, None))

    async def _hear(self, said: Sequence["_Said"]) -> Sequence[bool | Exception]:
        async with self._lock:
            if self._failure is not None:
                raise StateError(
                    "ROUND_RESTARTING",
                    "the aggregator restarts the round from its log; send it again",
                )
            verdicts = await asyncio.to_thread(lambda: [self._judge(each) for each in said])
            new = [
                message for message, verdict in verdicts if message is not None and verdict is True
            ]
            if new:
                await self._keep(new)
            await self._blame(
                (verdict.culprit or each.client, verdict.code)
                for each, (message, verdict) in zip(said, verdicts, strict=True)
                if isinstance(verdict, FinSecureError) and verdict.fault is Fault.PEER
            )
        if new:
            self._changed()
        return [verdict for _, verdict in verdicts]

    async def _keep(self, messages: Sequence[Message]) -> None:
        """Commit messages that the core has accepted."""
        inputs = [each.client for each in messages if each.phase is RoundState.SUBMIT_INPUT]
        try:
            if inputs:
                await asyncio.to_thread(self._around.blobs.sync_inputs, self.key)
            await self._around.store.append(self.key, messages)
        except BaseException as error:
            # The core has messages that the log has not: start again from the log.
            self._fail(error)
            raise
        for message in messages:
            self._accepted[message.phase].add(message.client)
            self._missing.discard(message.client)
        for client in inputs:
            self._fold_input(client)

    def _judge(self, said: "_Said") -> tuple[Message | None, bool | Exception]:
        """Verify what a client said, and let the core have it unless it is only to be checked.

        Returns:
            What is to be logged, if anything, and the answer to the client.
        """
        phase, client = said.phase, said.client
        try:
            self._require_awaited(phase, client)
            message = convert.client_message(phase, said.payload)
            if said.size_bytes is None:
                return None, self._core_check(client, message)
            if not self._core_accept(client, message):
                return None, False
        except Exception as error:  # of this message alone
            return None, error
        return Message(phase, client, message.digest(), said.payload, said.size_bytes), True

    def _require_awaited(self, phase: RoundState, client: str) -> None:
        if client in self._accepted[phase]:
            return
        if client not in self._invited:
            raise not_invited(client, self.key)
        if client in self._declined:
            raise StateError(
                "ROUND_DECLINED",
                f"{client} has declined {self.key.name}; wait for the next round",
            )
        if self.record.state is not phase:
            raise wrong_phase(self.record, phase)

    def _core_check(self, client: str, message: Any) -> bool:
        if isinstance(self._collector, CollectAdvertisements):
            return self._collector.check(message)
        return self._collector.check(client, message)

    def _core_accept(self, client: str, message: Any) -> bool:
        if isinstance(self._collector, CollectAdvertisements):
            return self._collector.accept(message)
        return self._collector.accept(client, message)

    async def _blame(self, pairs: Iterable[tuple[str, str]]) -> None:
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._blamed]
        if new:
            self._blamed += new
            await self._around.store.blame(self.key, self.blamed)
            self._changed()

    async def decline(self, client: str, reason: str) -> None:
        """Stop waiting for a client that will not take part; on disk when this returns.

        Raises:
            PermissionDeniedError: CLIENT_NOT_EXPECTED.
        """
        if client not in self._invited:
            raise not_invited(client, self.key)
        await self._shielded(self._decline(client, reason))

    async def _decline(self, client: str, reason: str) -> None:
        async with self._lock:
            await self._around.store.decline(self.key, Decline(client, reason))
            self._withdraw(client)
        self._changed()

    def _withdraw(self, client: str) -> None:
        self._declined.add(client)
        self._missing.discard(client)

    def input_bytes(self) -> int:
        """Bytes of a masked input of this round."""
        return self._parameters.input_bytes

    def has_input(self, client: str) -> bool:
        """Whether a client's masked input was accepted."""
        return client in self._accepted[RoundState.SUBMIT_INPUT]

    def _fold_input(self, client: str) -> None:
        path = self._around.blobs.input_path(self.key, client)
        self._folds.add(asyncio.create_task(self._folding.put(path)))

    async def _fold_inputs(self, paths: Sequence[Path]) -> Sequence[None]:
        await asyncio.to_thread(self._accumulator.add_input, *paths)
        return [None] * len(paths)

    # --- what clients are told -------------------------------------------------------------

    def instruction(self, client: str) -> Instruction | None:
        """What the round expects of a client now; None if nothing."""
        state = self.record.state
        if (
            state not in PHASES
            or self._failure is not None
            or client in self._declined
            or client in self._accepted[state]
            or client not in self._expected()
        ):
            return None
        collector = self._collector
        body: Body
        match collector:
            case CollectAdvertisements():
                body = Invitation(self._task, self.record, self.base_model)
            case CollectShares():
                body = collector.roster.for_client(client)
            case CollectInputs():
                body = collector.delivery(client)
            case CollectConfirmations():
                body = collector.survivors
            case CollectReveals():
                body = collector.confirmations(client)
        return Instruction(self.key, state, self.record.phases[-1].deadline_ns, body)

    def _expected(self) -> frozenset[str]:
        """Clients that may answer in the open phase."""
        return self._collector.expected

    # --- the course of the round -----------------------------------------------------------

    async def run(self) -> RoundSum:
        """Drive the round to its sum.

        Raises:
            FinSecureError: why the round has to be aborted.
        """
        with self._around.changes.watch((self.plan.name,), self._wake):
            while self.record.state in PHASES:
                await self._until_closable()
                await self._shielded(self._close())
        return await self._sum()

    def abort(self, reason: str, detail: str) -> None:
        """Let `run` raise a StateError with this reason, unless the round is past its phases."""
        self._fail(StateError(reason, detail))

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._wake.set()

    async def _until_closable(self) -> None:
        while self._failure is None:
            self._wake.clear()
            until_ns = self._closes_at()
            if until_ns <= self._around.clock.now_ns():
                return
            await self._around.clock.wait(self._wake, until_ns)
        raise self._failure

    def _closes_at(self) -> int:
        """When the open phase closes as things stand; 0 means at once."""
        presence = self._around.presence
        if not self._missing:
            return 0
        deadline_ns = self.record.phases[-1].deadline_ns
        last_left_ns = 0
        for client in self._missing:
            left_ns = presence.absent_since_ns(client)
            if left_ns is None:
                return deadline_ns
            last_left_ns = max(last_left_ns, left_ns)
        if not self._enough():
            return deadline_ns
        return min(deadline_ns, last_left_ns + self._around.grace_ns)

    def _await_all(self) -> None:
        answered = self._accepted.get(self.record.state, set())
        self._missing = set(self._expected() - answered - self._declined)

    def _enough(self) -> bool:
        """Whether the round could go on with those that have answered."""
        if isinstance(self._collector, CollectReveals):
            return self._collector.ready  # to close it is to rebuild all secrets
        try:
            self._collector.close()
        except StateError:
            return False
        return True

    async def _close(self) -> None:
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            closing = self.record.state
            await asyncio.to_thread(self._turn, closing)
            now_ns = self._around.clock.now_ns()
            opening = list(RoundState)[list(RoundState).index(closing) + 1]
            wait_ns = self.plan.deadlines_ns.get(opening, 0)
            phase = PhaseRecord(opening, now_ns, now_ns + wait_ns)
            try:
                await self._around.store.next_phase(self.key, now_ns=now_ns, phase=phase)
            except BaseException as error:
                self._fail(error)  # the core is ahead of the log
                raise
            closed = replace(self.record.phases[-1], close_ns=now_ns)
            self.record = replace(
                self.record, state=opening, phases=(*self.record.phases[:-1], closed, phase)
            )
            self._await_all()
        self._changed()
        self._around.turns.notify(self.plan.name)

    async def _sum(self) -> RoundSum:
        if self._unmasking is None:
            raise RuntimeError("a round is unmasked after its reveal phase has closed")
        await asyncio.gather(*self._folds)
        unmasking, layout = self._unmasking, self._parameters.layout
        words: NDArray[np.uint64] = await asyncio.to_thread(
            self._accumulator.unmask, unmasking.masks
        )
        sums = await asyncio.to_thread(layout.decode, words, unmasking.contributors)
        return RoundSum(sums, self.blamed)

    async def close(self) -> None:
        """Let go of what sums the inputs, whether the round has its sum or not."""
        await asyncio.to_thread(self._accumulator.close)
        await asyncio.gather(*self._folds, return_exceptions=True)

    def _changed(self) -> None:
        self._around.changes.notify(self.plan.name)

    async def _shielded(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)


def header_of(payload: bytes) -> MaskedInputHeader:
    """Read the header of an upload from its serialised form."""
    header = convert.client_message(RoundState.SUBMIT_INPUT, payload)
    assert isinstance(header, MaskedInputHeader)  # noqa: S101  # for the type checker
    return header


def wrong_phase(record: RoundRecord, phase: RoundState) -> StateError:
    """Make the error for a message of a phase that is not open."""
    return StateError(
        "WRONG_PHASE",
        f"{record.key.name} is in the phase {record.state.value}, the message belongs to "
        f"{phase.value}; wait for the next instruction",
    )


def not_invited(client: str, key: RoundKey) -> FinSecureError:
    """Make the error for a client that a round has not invited."""
    return PermissionDeniedError(
        "CLIENT_NOT_EXPECTED",
        f"{client} was not invited to {key.name}; wait for the next round",
        culprit=client,
    )
