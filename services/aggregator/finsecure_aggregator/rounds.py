"""One round: folds the log of accepted messages into the protocol core's phases, and drives them.

A message is checked by the core, committed to the log, and only then acknowledged. After a
restart the same messages in the same order lead to the same state, so the round goes on where it
was; deadlines come from the stored times of the phases.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from finsecure_crypto.errors import Fault, FinSecureError, StateError
from finsecure_rpc.shielded import Shielded

from finsecure_aggregator.attendance import Attendance
from finsecure_aggregator.batches import Batches
from finsecure_aggregator.input_folding import InputFolding
from finsecure_aggregator.instructions import Instruction
from finsecure_aggregator.plan import Plan
from finsecure_aggregator.records import (
    Decline,
    Message,
    ModelRecord,
    PhaseRecord,
    RoundKey,
    RoundRecord,
    RoundState,
)
from finsecure_aggregator.round_protocol import RoundProtocol, Sums
from finsecure_aggregator.surroundings import Surroundings
from finsecure_aggregator.wire.client_messages import client_message

_MOST_TOGETHER = 256  # messages of one commit; a client waits for those before it


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
        plan: the task's terms.
        record: of the round.
        base_model: that it starts from.
        protocol: what its messages mean.
    """

    def __init__(
        self,
        around: Surroundings,
        plan: Plan,
        record: RoundRecord,
        base_model: ModelRecord,
        protocol: RoundProtocol,
    ) -> None:
        self.record = record
        self.plan = plan
        self.base_model = base_model
        self._around = around
        self._protocol = protocol
        self._attendance = Attendance(
            record.invited, protocol.phases, around.presence, around.grace_ns
        )
        self._blamed: list[tuple[str, str]] = list(record.blamed)
        self._said: Batches[_Said, bool] = Batches(self._hear, _MOST_TOGETHER)
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._shielded = Shielded()
        self._folding = InputFolding(protocol.add_inputs, _MOST_TOGETHER)
        self._failure: BaseException | None = None

    @property
    def key(self) -> RoundKey:
        """Which round it is."""
        return self.record.key

    async def resume(self) -> None:
        """Fold the log; nothing to do for a round that has just been opened.

        Raises:
            FinSecureError: if the log or an input is damaged.
        """
        messages = await self._around.store.messages(self.key)
        declines = await self._around.store.declines(self.key)
        await asyncio.to_thread(self._fold, messages)
        await self._protocol.add_inputs(self._attendance.those_in(RoundState.SUBMIT_INPUT))
        for decline in declines:
            self._attendance.withdraw(decline.client)
        self._await_all()

    def _fold(self, messages: Sequence[Message]) -> None:
        # What lies in the log was verified when it came in; a certificate that has expired or was
        # revoked meanwhile does not undo the acceptance.
        with self._protocol.restoring():
            for phase in self.record.phases:
                for message in messages:
                    if message.phase is phase.phase:
                        said = client_message(phase.phase, message.payload)
                        self._protocol.accept(message.client, said)
                        self._attendance.record(message.phase, message.client)
                if phase.close_ns is not None:
                    self._turn(phase.phase)

    def _turn(self, phase: RoundState) -> None:
        self._protocol.turn(phase)
        self._blamed += [pair for pair in self._protocol.blamed if pair not in self._blamed]

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

    async def _hear(self, said: Sequence[_Said]) -> Sequence[bool | Exception]:
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
            self._attendance.record(message.phase, message.client)
        for client in inputs:
            self._folding.begin(client)

    def _judge(self, said: _Said) -> tuple[Message | None, bool | Exception]:
        """Verify what a client said, and let the core have it unless it is only to be checked.

        Returns:
            What is to be logged, if anything, and the answer to the client.
        """
        phase, client = said.phase, said.client
        try:
            self._attendance.require_awaited(self.record, phase, client)
            message = client_message(phase, said.payload)
            if said.size_bytes is None:
                return None, self._protocol.check(client, message)
            if not self._protocol.accept(client, message):
                return None, False
        except Exception as error:  # of this message alone
            return None, error
        return Message(phase, client, message.digest(), said.payload, said.size_bytes), True

    async def _blame(self, pairs: Iterable[tuple[str, str]]) -> None:
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._blamed]
        if new:
            self._blamed += new
            await self._around.store.blame(self.key, tuple(self._blamed))
            self._changed()

    async def decline(self, client: str, reason: str) -> None:
        """Stop waiting for a client that will not take part; on disk when this returns.

        Raises:
            PermissionDeniedError: CLIENT_NOT_EXPECTED.
        """
        self._attendance.require_invited(client, self.key)
        await self._shielded.run(self._decline(client, reason))

    async def _decline(self, client: str, reason: str) -> None:
        async with self._lock:
            await self._around.store.decline(self.key, Decline(client, reason))
            self._attendance.withdraw(client)
        self._changed()

    async def examine_input(self, client: str) -> None:
        """Look into a client's whole input before its header is accepted.

        Raises:
            FinSecureError: what is wrong with it; where it is the client's fault that is recorded,
                and the round waits for that client no more.
        """
        try:
            await self._protocol.examine_input(client)
        except FinSecureError as error:
            if error.fault is Fault.PEER:
                await self._shielded.run(self._refuse(client, error.code))
            raise

    async def _refuse(self, client: str, reason: str) -> None:
        async with self._lock:
            await self._blame([(client, reason)])
        await self._decline(client, reason)

    def input_bytes(self) -> int:
        """Bytes of an input of this round."""
        return self._protocol.input_bytes

    def has_input(self, client: str) -> bool:
        """Whether a client's input was accepted."""
        return self._attendance.answered(RoundState.SUBMIT_INPUT, client)

    # --- what clients are told -------------------------------------------------------------

    def instruction(self, client: str) -> Instruction | None:
        """What the round expects of a client now; None if nothing."""
        state = self.record.state
        if (
            state not in self._protocol.phases
            or self._failure is not None
            or self._attendance.declined(client)
            or self._attendance.answered(state, client)
            or client not in self._protocol.expected
        ):
            return None
        body = self._protocol.instruction(client)
        return Instruction(self.key, state, self.record.phases[-1].deadline_ns, body)

    # --- the course of the round -----------------------------------------------------------

    async def run(self) -> Sums:
        """Drive the round to its sum.

        Raises:
            FinSecureError: why the round has to be aborted.
        """
        with self._around.changes.watch((self.plan.name,), self._wake):
            while self.record.state in self._protocol.phases:
                await self._until_closable()
                await self._shielded.run(self._close())
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
            until_ns = self._attendance.closes_at(self.record.phases[-1], self._protocol.enough)
            if until_ns <= self._around.clock.now_ns():
                return
            await self._around.clock.wait(self._wake, until_ns)
        raise self._failure

    def _await_all(self) -> None:
        self._attendance.await_all(self.record.state, self._protocol.expected)

    async def _close(self) -> None:
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            closing = self.record.state
            await asyncio.to_thread(self._turn, closing)
            now_ns = self._around.clock.now_ns()
            course = (*self._protocol.phases, self._protocol.finale)
            opening = course[course.index(closing) + 1]
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

    async def _sum(self) -> Sums:
        await self._folding.finish()
        return await self._protocol.sum(self.record.phases[-1].deadline_ns)

    def record_so_far(self) -> RoundRecord:
        """The record with all that only the end of a round writes down."""
        trustees = tuple(self._protocol.trustees())
        blamed = tuple(dict.fromkeys((*self._blamed, *self._protocol.blamed)))
        return replace(self.record, blamed=blamed, trustees=trustees)

    async def close(self) -> None:
        """Let go of what sums the inputs, whether the round has its sum or not."""
        await self._protocol.close()
        await self._folding.settle()

    def _changed(self) -> None:
        self._around.changes.notify(self.plan.name)
