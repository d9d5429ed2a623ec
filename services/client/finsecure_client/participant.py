"""One client in one round: from each instruction, through the core's step, to the answer.

An answer is made once and kept until the round is over, so that a repeated instruction gets the
same bytes again. What the client refuses it declines, once, and then it is out of the round.
"""

import asyncio
import threading
from datetime import UTC, datetime

import numpy as np
from finsecure_crypto.errors import (
    FinSecureError,
    IntegrityError,
    InternalError,
    InvalidArgumentError,
    PolicyError,
    ProtocolViolationError,
    ResourceExhaustedError,
    StateError,
    UnavailableError,
)
from finsecure_crypto.federation import RoundKind
from finsecure_crypto.secagg import client as secagg
from finsecure_crypto.secagg import messages
from finsecure_rpc.backoff import Backoff
from finsecure_rpc.logs import get_logger
from numpy.typing import NDArray

from finsecure_client import contribution
from finsecure_client.egress import EGRESS_CODES
from finsecure_client.instructions import (
    Instruction,
    Invitation,
    Malformed,
    ServerMessage,
    Survivors,
)
from finsecure_client.party import Party
from finsecure_client.trainer import Assignment, GlobalModel

# The aggregator alone decides what is late; a client whose clock is wrong still tries.
_LEAST_S = 5.0
_LONGEST_S = 7 * 24 * 3600.0
_FETCH_TRIES = 5

log = get_logger(__name__)

Answer = (
    messages.KeyAdvertisement
    | messages.KeyShares
    | secagg.MaskedInput
    | messages.SurvivorConfirmation
    | messages.RevealedShares
)
State = (
    secagg.AwaitRoster
    | secagg.AwaitShares
    | secagg.AwaitSurvivors
    | secagg.AwaitConfirmations
    | secagg.Revealed
)


class AnswerRefusedError(StateError):
    """The aggregator did not take an answer; it knows, so it need not be told."""


class Participant:
    """One client in one round."""

    def __init__(self, name: str, party: Party) -> None:
        self.name = name
        self._party = party
        self._invitation: Invitation | None = None
        self._state: State | None = None
        self._answers: dict[type[ServerMessage], tuple[ServerMessage, Answer]] = {}
        self._unwanted = threading.Event()

    def abandon(self) -> None:
        """Tell a training that runs that nobody waits for it, and forget the round's secrets."""
        self._unwanted.set()
        self._state = None
        self._answers.clear()

    async def follow(self, instruction: Instruction) -> None:
        """Answer one instruction.

        Raises:
            PolicyError, ProtocolViolationError, IntegrityError, AuthenticationError: the
                aggregator or a peer asked for what this client refuses.
            StateError: RESTARTED, for an instruction of a round that this process did not begin;
                PHASE_TIMEOUT.
            AnswerRefusedError: ANSWER_REFUSED; the round is over for this client.
            FinSecureError: what the trainer raises.
        """
        try:
            async with asyncio.timeout(_remaining(instruction.deadline)):
                answer = await self._answer_once(instruction.body)
                await self._persist(answer)
        except TimeoutError:
            raise StateError(
                "PHASE_TIMEOUT", f"this client was not done when a phase of {self.name} closed"
            ) from None

    async def _answer_once(self, body: ServerMessage) -> Answer:
        known = self._answers.get(type(body))
        if known is None:
            answer = await self._answer(body)
            self._answers[type(body)] = (body, answer)
            return answer
        if known[0] != body:
            raise ProtocolViolationError(
                "INSTRUCTION_CHANGED",
                f"the aggregator changed what it had said in {self.name}; nothing more is answered",
            )
        return known[1]

    async def _answer(self, body: ServerMessage) -> Answer:
        answer: Answer
        match self._state, body:
            case _, Malformed():
                raise body.error
            case None, Invitation():
                self._state, answer = await asyncio.to_thread(self._accept, body)
                self._invitation = body
            case secagg.AwaitRoster() as state, messages.Roster():
                self._state, answer = await asyncio.to_thread(
                    state.share_keys, body, self._party.trust.peer
                )
            case secagg.AwaitShares() as state, messages.ShareDelivery():
                words = await self._input()
                await asyncio.to_thread(self._record)
                self._state, answer = await asyncio.to_thread(state.mask_input, body, words)
            case secagg.AwaitSurvivors() as state, Survivors():
                self._state, answer = state.confirm_survivors(body.bitmap)
            case secagg.AwaitConfirmations() as state, messages.Confirmations():
                self._state, answer = await asyncio.to_thread(state.reveal_shares, body)
            case None, _:
                raise StateError(
                    "RESTARTED",
                    f"this process did not begin {self.name}, so it has no keys for it; it joins "
                    "the next round",
                )
            case _:
                raise ProtocolViolationError(
                    "OUT_OF_ORDER", f"the aggregator left out a phase of {self.name}"
                )
        return answer

    def _accept(self, invitation: Invitation) -> tuple[State, Answer]:
        """Check an invitation wholly, then make the round's keys."""
        party, task = self._party, invitation.task
        expected = f"{task.name}/rounds/{invitation.number}-{invitation.attempt}"
        version = invitation.base_model.version
        if self.name != expected or version.name != f"{task.name}/models/{version.version}":
            raise ProtocolViolationError(
                "ROUND_NAME_MISMATCH", f"an invitation to {expected} came as {self.name}"
            )
        if invitation.kind is RoundKind.STATISTICS and not task.schema.standardise:
            raise PolicyError(
                "ROUND_NOT_ALLOWED", f"{task.name} does not standardise, so it needs no statistics"
            )
        if invitation.invited > task.maximum_cohort:
            raise ProtocolViolationError(
                "COHORT_ABOVE_TASK",
                f"{invitation.invited} clients are invited, the task allows {task.maximum_cohort}",
            )
        try:
            parameters = invitation.parameters()
            party.policy.check_round(task, parameters)
            party.ledger.check(task, invitation.number, invitation.attempt)
        except InvalidArgumentError as error:
            raise ProtocolViolationError(
                error.code, f"the aggregator proposed an impossible round: {error.message}"
            ) from error
        party.trust.check_model(invitation.base_model)
        return secagg.advertise_keys(parameters, party.identity(), policy=party.policy.security)

    def _record(self) -> None:
        """Note that this round gets its one input."""
        assert self._invitation is not None  # noqa: S101  # set before any other state
        said = self._invitation
        self._party.ledger.record(said.task, said.number, said.attempt)

    async def _input(self) -> NDArray[np.uint64]:
        """Train, or take statistics, on the worker thread, and encode the result."""
        assert self._invitation is not None  # noqa: S101  # set before any other state
        invitation, party = self._invitation, self._party
        task, layout = invitation.task, invitation.parameters().layout
        loop = asyncio.get_running_loop()
        if invitation.kind is RoundKind.STATISTICS:
            return await loop.run_in_executor(
                party.worker, contribution.statistics, party.trainer, task, layout
            )
        assignment = Assignment(
            task=task,
            model=await self._fetch_model(invitation),
            round_number=invitation.number,
            cancelled=self._unwanted.is_set,
        )
        return await loop.run_in_executor(
            party.worker, contribution.training, party.trainer, assignment, layout
        )

    async def _fetch_model(self, invitation: Invitation) -> GlobalModel:
        """Download the base model; what arrives damaged is fetched anew a few times."""
        backoff = Backoff()
        party, task = self._party, invitation.task
        for tries_left in reversed(range(_FETCH_TRIES)):
            try:
                model = await party.models.fetch(invitation.base_model, task, party.service)
            except (IntegrityError, UnavailableError) as error:
                if not tries_left:
                    raise
                log.warning("model not fetched yet", round=self.name, error=str(error))
                await asyncio.sleep(backoff.next_s())
            else:
                if (model.standardisation is not None) != task.schema.standardise:
                    raise ProtocolViolationError(
                        "MODEL_NOT_STANDARDISED",
                        f"{invitation.base_model.version.name} does not fit to standardise = "
                        f"{str(task.schema.standardise).lower()} of the task",
                    )
                return model
        raise AssertionError

    async def _persist(self, answer: Answer) -> None:
        """Send until the aggregator takes the answer or the phase is over."""
        backoff = Backoff(0.2, 10.0)
        while True:
            try:
                return await self._send(answer)
            except (UnavailableError, ResourceExhaustedError, InternalError) as error:
                if error.code in EGRESS_CODES:
                    raise  # it was not sent, and will not be
                log.info("answer delayed", round=self.name, error=str(error))
                await asyncio.sleep(backoff.next_s())
            except FinSecureError as error:
                raise AnswerRefusedError(
                    "ANSWER_REFUSED", f"the aggregator refused an answer in {self.name}: {error}"
                ) from error

    async def _send(self, answer: Answer) -> None:
        service, name = self._party.service, self.name
        match answer:
            case messages.KeyAdvertisement():
                await service.advertise_keys(name, answer)
            case messages.KeyShares():
                await service.share_keys(name, answer)
            case secagg.MaskedInput():
                await self._upload(answer)
            case messages.SurvivorConfirmation():
                await service.confirm_survivors(name, answer)
            case messages.RevealedShares():
                await service.reveal_shares(name, answer)

    async def _upload(self, masked: secagg.MaskedInput) -> None:
        """Send the masked vector from where the aggregator has it on disk."""
        service = self._party.service
        content = masked.words.astype("<u8", copy=False).data.cast("B")
        committed, accepted = await service.upload_status(self.name)
        if accepted:
            return
        if committed > len(content):
            raise ProtocolViolationError(
                "UPLOAD_STATUS_INVALID", "the aggregator says that it has more than there is"
            )
        cause: FinSecureError | None = None
        try:
            _, accepted = await service.submit_masked_input(
                self.name, masked.header, content, committed
            )
        except (IntegrityError, StateError) as error:
            # A repeated stream may begin where the bytes on disk no longer end.
            if isinstance(error, StateError) and error.code != "UPLOAD_SUPERSEDED":
                raise
            cause = error
        if not accepted:
            raise UnavailableError(
                "UPLOAD_INCOMPLETE",
                f"the upload for {self.name} was cut off; it is resumed"
                + (f" ({cause})" if cause else ""),
            ) from cause


_TOLD_KINDS = (PolicyError, ProtocolViolationError, IntegrityError)
_TOLD_CODES = frozenset(
    {"RESTARTED", "CERTIFICATE_UNTRUSTED", "CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED"}
)


def reason_to_tell(error: FinSecureError) -> str:
    """Return the code that the aggregator is told; what failed at home is nobody's business."""
    told = isinstance(error, _TOLD_KINDS) or error.code in _TOLD_CODES
    return error.code if told else "LOCAL_FAILURE"


def _remaining(deadline: datetime) -> float:
    return min(max((deadline - datetime.now(UTC)).total_seconds(), _LEAST_S), _LONGEST_S)
