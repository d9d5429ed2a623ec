"""Opens an encrypted sum with as many trustees as it takes, through those that fail or lie.

As many are asked at once as open a sum together; when one cannot be reached, refuses, takes long,
or sends what is no partial decryption, the next one is asked. What a trustee has answered is on the
disk before it is used, so that a restart asks nobody again.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import (
    FinSecureError,
    IntegrityError,
    ProtocolViolationError,
    StateError,
    UnavailableError,
)
from finsecure_rpc.durable import write_file
from finsecure_rpc.logs import get_logger

from finsecure_aggregator import cipher_worker
from finsecure_aggregator.ciphers import WorkerLostError, decoded, lost
from finsecure_aggregator.clock import Clock
from finsecure_aggregator.encryption import EncryptionDesk, HeldKey, Opening
from finsecure_aggregator.records import TrusteeAnswer
from finsecure_aggregator.round_protocol import Sums

_SERVED = ""
_UNREACHED = "TRUSTEE_UNREACHED"
_SLOW = "TRUSTEE_SLOW"
_MISSING = "TRUSTEE_NOT_CONFIGURED"
_INVALID = "PARTIAL_INVALID"
_PASSING = (_UNREACHED, _SLOW)  # such a trustee may serve yet
_ASK_AGAIN_NS = 2 * 10**9
_DISAGREE = frozenset({"PARTIALS_DISAGREE", "SUM_OUT_OF_RANGE"})

_log = get_logger(__name__)


@dataclass
class _Asked:
    """A trustee that is being asked, since when, and whether it was found slow."""

    holder: int
    since_ns: int
    slow: bool = False


class SumOpener:
    """Opens one sum, of a round or an audited one.

    Args:
        desk: workers and trustees.
        key: that the inputs are encrypted under.
        layout: of the inputs.
        folder: where answers are kept.
        clock: time.
    """

    def __init__(
        self,
        desk: EncryptionDesk,
        key: HeldKey,
        layout: VectorLayout,
        folder: Path,
        clock: Clock,
    ) -> None:
        self._desk = desk
        self._key = key
        self._layout = layout
        self._folder = folder
        self._clock = clock
        self._said: dict[int, str] = {}
        self._partials: dict[int, Path] = {}
        self._accused: dict[str, dict[int, str]] = {}  # code by holder, by client
        self._ask_at_ns: dict[int, int] = {}
        self._request = b""
        self._wanted = key.threshold

    def answers(self) -> Sequence[TrusteeAnswer]:
        """What each trustee that was asked did, by number of its share."""
        return [
            TrusteeAnswer(holder, self._key.trustees[holder], reason)
            for holder, reason in sorted(self._said.items())
        ]

    async def open(self, opening: Opening, total: Path, deadline_ns: int) -> Sums:
        """Open a sum.

        Args:
            opening: what the trustees are shown.
            total: file of the encrypted sum.
            deadline_ns: until when they are asked again.

        Raises:
            ProtocolViolationError: the reason why trustees refuse one client's contribution, who
                is the culprit; without it the sum may be opened.
            StateError: SUM_NOT_OPENED; too few trustees have helped.
            IntegrityError: SUM_OUT_OF_RANGE; the inputs add up to nothing that can be.
            UnavailableError: WORKERS_LOST.
        """
        self._request = opening.request.digest()
        self._accused = {}
        self._ask_at_ns = {}
        self._partials = {
            holder: self._path(holder)
            for holder in self._key.trustees
            if self._path(holder).exists() and await self._judge(opening, total, holder)
        }
        self._said = dict.fromkeys(self._partials, _SERVED)
        self._wanted = self._key.threshold
        running: dict[asyncio.Task[str], _Asked] = {}
        try:
            while True:
                if len(self._partials) >= self._wanted:
                    sums = await self._combine(opening, total)
                    if sums is not None:
                        return sums
                elif not self._hope() or self._clock.now_ns() >= deadline_ns:
                    raise self._refused_contributor() or self._not_opened()
                else:
                    for holder in self._next_to_ask(running.values()):
                        task = asyncio.create_task(self._ask(opening, total, holder))
                        running[task] = _Asked(holder, self._clock.now_ns())
                    await self._listen(running, deadline_ns)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _path(self, holder: int) -> Path:
        # Another request for the same round, with a client less, has answers of its own.
        return self._folder / f"partial-{holder}-{self._request.hex()[:32]}"

    def _hope(self) -> bool:
        """Whether as many as are wanted have served or may yet."""
        hopeful = [
            self._said.get(holder, _SERVED) in (_SERVED, *_PASSING) for holder in self._key.trustees
        ]
        return sum(hopeful) >= self._wanted

    def _refused_contributor(self) -> ProtocolViolationError | None:
        """The error for a client without whom the sum could be opened, if there is one.

        One trustee may say anything; so many that the rest cannot open the sum keep it shut, with
        or without a reason.
        """
        enough = len(self._key.trustees) - self._key.threshold + 1
        for client, reasons in sorted(self._accused.items()):
            if len(reasons) >= enough:
                code = next(iter(reasons.values()))
                return ProtocolViolationError(
                    code,
                    f"{len(reasons)} trustees refuse the input of {client}: {code}",
                    culprit=client,
                )
        return None

    def _not_opened(self) -> StateError:
        said = ", ".join(f"{each.trustee}: {each.reason or 'served'}" for each in self.answers())
        return StateError(
            "SUM_NOT_OPENED",
            f"{self._wanted} trustees are needed to open the sum ({said}); see to those that "
            "did not help",
        )

    def _next_to_ask(self, running: Iterable["_Asked"]) -> Sequence[int]:
        """Trustees to ask now: as many as are lacking, besides those whose answer is due.

        A slow one goes on, and another is asked beside it. A refusal or a lie would only be
        repeated.
        """
        busy = {asked.holder for asked in running}
        prompt = sum(not asked.slow for asked in running)
        now_ns = self._clock.now_ns()
        free = [
            holder
            for holder in sorted(self._key.trustees)
            if holder not in busy
            and holder not in self._partials
            and self._said.get(holder, _UNREACHED) in _PASSING
            and self._ask_at_ns.get(holder, 0) <= now_ns
        ]
        return free[: max(self._wanted - len(self._partials) - prompt, 0)]

    async def _listen(self, running: dict[asyncio.Task[str], "_Asked"], deadline_ns: int) -> None:
        """Wait until a trustee has answered, is found slow, or may be asked again."""
        now_ns, patience_ns = self._clock.now_ns(), self._desk.patience_ns
        times = [asked.since_ns + patience_ns for asked in running.values() if not asked.slow]
        times += [at_ns for at_ns in self._ask_at_ns.values() if at_ns > now_ns]
        wait_s = max(min((*times, deadline_ns)) - now_ns, 0) / 1e9
        if not running:
            await asyncio.sleep(wait_s)
            return
        done, _ = await asyncio.wait(running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            self._heard(running.pop(task).holder, task.result())
        for asked in running.values():
            if not asked.slow and asked.since_ns + patience_ns <= self._clock.now_ns():
                asked.slow = True
                self._heard(asked.holder, _SLOW)

    def _heard(self, holder: int, reason: str) -> None:
        self._said[holder] = reason
        if reason == _SERVED:
            self._partials[holder] = self._path(holder)
            return
        _log.warning("trustee_failed", trustee=self._key.trustees[holder], reason=reason)
        if reason == _UNREACHED:
            self._ask_at_ns[holder] = self._clock.now_ns() + _ASK_AGAIN_NS

    async def _ask(self, opening: Opening, total: Path, holder: int) -> str:
        """Ask one trustee and judge its answer; returns the reason code of a failure."""
        trustee = self._desk.trustees.get(self._key.trustees[holder])
        if trustee is None:
            return _MISSING
        try:
            partial = await trustee.partially_decrypt(opening, holder)
        except UnavailableError:
            return _UNREACHED
        except FinSecureError as error:
            if any(each.client == error.culprit for each in opening.manifest):
                self._accused.setdefault(str(error.culprit), {})[holder] = error.code
            return error.code
        await asyncio.to_thread(write_file, self._path(holder), partial)
        return _SERVED if await self._judge(opening, total, holder) else _INVALID

    async def _judge(self, opening: Opening, total: Path, holder: int) -> bool:
        """Verify a partial decryption as far as it can be judged by itself."""
        try:
            await self._desk.workers.ask(
                self._key.file,
                "verify",
                total=str(total),
                holder=holder,
                partial=str(self._path(holder)),
                context=opening.request.digest().hex(),
            )
        except (ProtocolViolationError, IntegrityError, WorkerLostError):
            return False
        return True

    async def _combine(self, opening: Opening, total: Path) -> Sums | None:
        """Combine what is there; None where another trustee has to be asked first."""
        try:
            return await self._combined(opening, total, self._partials)
        except ProtocolViolationError as error:
            self._drop(int(error.culprit or 0))
            return None
        except IntegrityError as error:
            if error.code not in _DISAGREE:
                raise
            if self._wanted < len(self._key.trustees):
                self._wanted += 1  # one more answer shows whose is wrong
                return None
            return await self._majority(opening, total, error)

    async def _majority(self, opening: Opening, total: Path, doubt: IntegrityError) -> Sums:
        """Find the one set of trustees whose answers fit together.

        Raises:
            IntegrityError: `doubt`, where there is none, or more than one.
        """
        fitting: list[tuple[frozenset[int], Sums]] = []
        for holders in combinations(sorted(self._partials), self._key.threshold):
            chosen = {holder: self._partials[holder] for holder in holders}
            try:
                fitting.append((frozenset(holders), await self._combined(opening, total, chosen)))
            except (ProtocolViolationError, IntegrityError):
                continue
        if len(fitting) != 1:
            raise doubt
        honest, sums = fitting[0]
        for holder in self._partials.keys() - honest:
            self._drop(holder)
        return sums

    async def _combined(self, opening: Opening, total: Path, partials: Mapping[int, Path]) -> Sums:
        try:
            answer = await self._desk.workers.ask(
                self._key.file,
                "combine",
                layout=cipher_worker.layout_document(self._layout),
                contributors=opening.request.contributions,
                total=str(total),
                partials={holder: str(path) for holder, path in partials.items()},
                context=opening.request.digest().hex(),
            )
        except WorkerLostError as loss:
            raise lost() from loss
        return decoded(answer)

    def _drop(self, holder: int) -> None:
        """Name a liar; its answer is not used, and it is not asked again."""
        if self._partials.pop(holder, None) is None:
            raise IntegrityError("PARTIALS_DISAGREE", "a partial was blamed that was not combined")
        self._said[holder] = _INVALID
        self._wanted = self._key.threshold  # those that are left may do
        _log.warning("trustee_lied", trustee=self._key.trustees[holder])
