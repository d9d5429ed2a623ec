"""One client in the rounds of its tasks: the Watch stream, and a participant for each round."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

from finsecure_crypto.errors import (
    ConfigurationError,
    FinSecureError,
    NotFoundError,
    PermissionDeniedError,
    PolicyError,
)
from finsecure_rpc.backoff import Backoff
from finsecure_rpc.logs import get_logger

from finsecure_client.instructions import EncryptedInvitation, Instruction, Invitation, Outcome
from finsecure_client.participant import AnswerRefusedError, Participant, reason_to_tell
from finsecure_client.party import Party, RoundService

_MOST_ROUNDS = 100
_MOST_WAITING = 16
_MOST_FAREWELLS = 100
_REMEMBERED_ROUNDS = 10_000
_FAREWELL_S = 3.0
# Everything else may pass. The stream itself may end with these codes as well, when its connection
# is older than a renewal; reading the tasks always uses the newest certificate.
_FINAL_KINDS = (ConfigurationError, NotFoundError, PermissionDeniedError, PolicyError)
_FINAL_CODES = frozenset({"CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED"})

log = get_logger(__name__)

OnOutcome = Callable[[str, Outcome], None]


class Service(RoundService, Protocol):
    """The calls of a round, and the stream of instructions."""

    def watch(self, tasks: Sequence[str]) -> AsyncIterator[Instruction]:
        """Yield instructions for as long as the stream lasts."""


class Participation:
    """Takes part in the rounds of some tasks until it is cancelled.

    Args:
        service: the aggregator.
        party: what the client brings to every round.
        poll_interval_s: seconds between two looks at which tasks there are.
        on_outcome: called with the name and outcome of each round that ends.
    """

    def __init__(
        self,
        service: Service,
        party: Party,
        *,
        poll_interval_s: float = 10.0,
        on_outcome: OnOutcome = lambda name, outcome: None,
    ) -> None:
        self._service = service
        self._party = party
        self._poll_interval_s = poll_interval_s
        self._on_outcome = on_outcome
        self._rounds: dict[str, _OpenRound] = {}
        self._left: OrderedDict[str, None] = OrderedDict()
        self._background: set[asyncio.Task[None]] = set()

    async def run(
        self, wanted: Callable[[], Awaitable[Sequence[str]]], *, until_none: bool = False
    ) -> None:
        """Take part in the tasks that `wanted` names, which is asked again now and then.

        Args:
            wanted: returns resource names of tasks.
            until_none: whether to return when it names none.

        Raises:
            FinSecureError: what `wanted` raises, where trying again cannot help.
        """
        tasks: tuple[str, ...] = ()
        watching: asyncio.Task[None] | None = None
        backoff = Backoff(0.5, 30.0)
        try:
            while True:
                pause = self._poll_interval_s
                try:
                    found = tuple(sorted(await wanted()))
                    backoff.reset()
                except FinSecureError as error:
                    if isinstance(error, _FINAL_KINDS) or error.code in _FINAL_CODES:
                        raise
                    log.warning("tasks not read", error=str(error))
                    found, pause = tasks, backoff.next_s()
                else:
                    if until_none and not found:
                        return
                if found != tasks:
                    log.info("tasks", tasks=list(found))
                    await _cancel(watching)
                    tasks = found
                    watching = asyncio.create_task(self._watch(tasks)) if tasks else None
                if watching is None:
                    await asyncio.sleep(pause)
                elif (await asyncio.wait([watching], timeout=pause))[0]:
                    watching.result()  # it ends only by a defect
        finally:
            await _cancel(watching)
            await self._farewell()

    async def _watch(self, tasks: Sequence[str]) -> None:
        """Keep the stream open and hand each instruction to its round."""
        backoff = Backoff(0.2, 30.0)
        while True:
            try:
                async for instruction in self._service.watch(tasks):
                    backoff.reset()
                    self._dispatch(instruction)
            except FinSecureError as error:
                if error.code != "DEADLINE_EXCEEDED":
                    log.warning("aggregator not watched", error=str(error))
            await asyncio.sleep(backoff.next_s())

    def _dispatch(self, instruction: Instruction) -> None:
        name, body = instruction.round, instruction.body
        if isinstance(body, Outcome):
            self._finish(name, body)
            return
        if name in self._left:
            # Once out of a round, whatever the reason, always out of it: nothing is said twice.
            return
        if name not in self._rounds:
            if isinstance(body, EncryptedInvitation):
                body = body.invitation
            if isinstance(body, Invitation):
                log.info("round begins", round=name, invited=body.invited)
                self._close_other_rounds(name)
            if len(self._rounds) >= _MOST_ROUNDS:
                self._leave(name, "TOO_MANY_ROUNDS")
                return
            self._rounds[name] = _OpenRound(Participant(name, self._party), self._follow)
        if not self._rounds[name].add(instruction):
            self._close(name)
            self._leave(name, "TOO_MANY_INSTRUCTIONS")

    def _close_other_rounds(self, name: str) -> None:
        """Close what is open of the same task: its rounds follow each other."""
        task, _, _ = name.rpartition("/rounds/")
        for other in list(self._rounds):
            if other != name and other.rpartition("/rounds/")[0] == task:
                log.info("round ended", round=other, end="unknown", reason="the next one began")
                self._close(other)

    def _finish(self, name: str, outcome: Outcome) -> None:
        opened = self._rounds.pop(name, None)
        if opened is not None:
            opened.close()
        if opened is not None or name in self._left:
            end = "completed" if outcome.completed else "aborted"
            log.info("round ended", round=name, end=end, reason=outcome.reason)
            self._on_outcome(name, outcome)
        self._remember(name)

    def _close(self, name: str) -> None:
        self._rounds.pop(name).close()
        self._remember(name)

    async def _follow(self, opened: "_OpenRound") -> None:
        """Answer a round's instructions one after the other, until it has to be left."""
        participant = opened.participant
        try:
            while True:
                instruction = await opened.queue.get()
                await participant.follow(instruction)
                step = type(instruction.body).__name__
                log.info("answered", round=participant.name, instruction=step)
        except AnswerRefusedError as error:
            log.warning("round left", round=participant.name, error=str(error))
            self._drop(participant.name)
        except FinSecureError as error:
            log.error("round declined", round=participant.name, error=str(error))
            self._drop(participant.name)
            self._leave(participant.name, reason_to_tell(error))
        except Exception:
            # A trainer is the user's code: whatever it does wrong must not end the daemon.
            log.exception("round declined", round=participant.name)
            self._drop(participant.name)
            self._leave(participant.name, "LOCAL_FAILURE")

    def _drop(self, name: str) -> None:
        opened = self._rounds.pop(name, None)
        if opened is not None:
            opened.participant.abandon()
        self._remember(name)

    def _remember(self, name: str) -> None:
        self._left[name] = None
        while len(self._left) > _REMEMBERED_ROUNDS:
            self._left.popitem(last=False)

    def _leave(self, name: str, reason: str) -> None:
        """Tell the aggregator in the background; if it cannot be told, its deadline tells it."""
        self._remember(name)
        if len(self._background) >= _MOST_FAREWELLS:
            return
        task = asyncio.create_task(self._decline(name, reason))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _decline(self, name: str, reason: str) -> None:
        try:
            await self._service.decline_round(name, reason)
        except FinSecureError as error:
            log.warning("decline not delivered", round=name, error=str(error))

    async def _farewell(self) -> None:
        """Leave the open rounds, so that nobody waits for this client."""
        for name, opened in list(self._rounds.items()):
            opened.close()
            self._leave(name, "CLIENT_STOPPING")
        self._rounds.clear()
        if self._background:
            await asyncio.wait(self._background, timeout=_FAREWELL_S)
        for task in list(self._background):
            await _cancel(task)


class _OpenRound:
    """A participant with the instructions that wait for it."""

    def __init__(
        self, participant: Participant, follow: Callable[["_OpenRound"], Awaitable[None]]
    ) -> None:
        self.participant = participant
        self.queue: asyncio.Queue[Instruction] = asyncio.Queue(_MOST_WAITING)
        self._newest: Instruction | None = None
        self._task = asyncio.ensure_future(follow(self))

    def add(self, instruction: Instruction) -> bool:
        """Let an instruction wait for its turn; False if too many wait already.

        Each new stream repeats the open instruction; while the one before waits, once is enough.
        """
        if self.queue.full():
            return False
        if self.queue.empty() or instruction != self._newest:
            self.queue.put_nowait(instruction)
            self._newest = instruction
        return True

    def close(self) -> None:
        """Stop whatever is going on in the round."""
        self._task.cancel()
        self.participant.abandon()


async def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
