"""One client in one round: from each instruction, through the core's step, to the answer.

An answer is made once and kept until the round is over, so that a repeated instruction gets the
same bytes again. What the client refuses it declines, once, and then it is out of the round.
"""

import asyncio
import threading
from datetime import UTC, datetime

import numpy as np
from finsecure_crypto.encoding import VectorLayout, rounding_generator
from finsecure_crypto.errors import (
    FinSecureError,
    IntegrityError,
    InternalError,
    PolicyError,
    ProtocolViolationError,
    ResourceExhaustedError,
    StateError,
    UnavailableError,
)
from finsecure_crypto.federation import Encryption
from finsecure_crypto.homomorphic.rounds import EncryptedInputHeader
from finsecure_crypto.secagg import client as secagg
from finsecure_crypto.secagg import messages
from finsecure_rpc.backoff import Backoff
from finsecure_rpc.logs import get_logger
from numpy.typing import NDArray

from finsecure_client import assignments
from finsecure_client.egress import EGRESS_CODES
from finsecure_client.encrypted_input import EncryptedInput, encrypt_input
from finsecure_client.instructions import (
    EncryptedInvitation,
    Instruction,
    Invitation,
    Malformed,
    ServerMessage,
    Survivors,
)
from finsecure_client.party import Party

# The aggregator alone decides what is late; a client whose clock is wrong still tries.
_LEAST_S = 5.0
_LONGEST_S = 7 * 24 * 3600.0

log = get_logger(__name__)

Answer = (
    messages.KeyAdvertisement
    | messages.KeyShares
    | secagg.MaskedInput
    | EncryptedInput
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
        self._layout: VectorLayout | None = None
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
                self._state, answer = await self._join(body)
            case None, EncryptedInvitation():
                answer = await self._encrypt(body)
            case secagg.AwaitRoster() as state, messages.Roster():
                self._state, answer = await asyncio.to_thread(
                    state.share_keys, body, self._party.trust.peer
                )
            case secagg.AwaitShares() as state, messages.ShareDelivery():
                words = await self._words()
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

    async def _join(self, invitation: Invitation) -> tuple[State, Answer]:
        """Check an invitation to a round under masks, then make the round's keys."""
        party = self._party
        parameters = await asyncio.to_thread(
            assignments.masked_parameters, self.name, invitation, party
        )
        await party.minima.require_round(parameters.minimum_cohort)
        self._invitation, self._layout = invitation, parameters.layout
        return await asyncio.to_thread(
            secagg.advertise_keys, parameters, party.identity(), policy=party.policy.security
        )

    async def _words(self) -> NDArray[np.uint64]:
        """Make and encode the values of a round that this process has joined."""
        assert self._invitation is not None  # noqa: S101  # set before any other state
        assert self._layout is not None  # noqa: S101  # as well
        values = await assignments.make_values(self._invitation, self._party, self._unwanted.is_set)
        await asyncio.to_thread(self._record, self._invitation)
        return await asyncio.to_thread(self._layout.encode, values, rounding_generator())

    async def _encrypt(self, body: EncryptedInvitation) -> EncryptedInput:
        """Check an invitation and its key, make the values, and encrypt them."""
        party, invitation = self._party, body.invitation
        parameters = await asyncio.to_thread(
            assignments.encrypted_parameters, self.name, invitation, body.key_digest, party
        )
        await party.minima.require_round(parameters.minimum_cohort)
        encryption = invitation.task.terms.protection
        assert isinstance(encryption, Encryption)  # noqa: S101  # for the type checker
        key = await party.keys.key(encryption, body.key_digest)
        values = await assignments.make_values(invitation, party, self._unwanted.is_set)
        await asyncio.to_thread(self._record, invitation)
        return await asyncio.get_running_loop().run_in_executor(
            party.worker, encrypt_input, key, parameters, values, party.identity()
        )

    def _record(self, invitation: Invitation) -> None:
        """Note that this round gets its one input."""
        self._party.ledger.record(invitation.task, invitation.number, invitation.attempt)

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
            case secagg.MaskedInput(header=header, words=words):
                await self._upload(header, words.astype("<u8", copy=False).data.cast("B"))
            case EncryptedInput(header=header, content=content):
                await self._upload(header, memoryview(content))
            case messages.SurvivorConfirmation():
                await service.confirm_survivors(name, answer)
            case messages.RevealedShares():
                await service.reveal_shares(name, answer)

    async def _upload(
        self, header: messages.MaskedInputHeader | EncryptedInputHeader, content: memoryview
    ) -> None:
        """Send the input from where the aggregator has it on disk."""
        service = self._party.service
        committed, accepted = await service.upload_status(self.name)
        if accepted:
            return
        if committed > len(content):
            raise ProtocolViolationError(
                "UPLOAD_STATUS_INVALID", "the aggregator says that it has more than there is"
            )
        cause: FinSecureError | None = None
        try:
            _, accepted = await service.submit_input(self.name, header, content, committed)
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
