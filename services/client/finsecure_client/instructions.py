"""What the aggregator tells a client of a round, as plain frozen types."""

from dataclasses import dataclass
from datetime import datetime

from finsecure_crypto.attempt import Attempt
from finsecure_crypto.errors import ProtocolViolationError
from finsecure_crypto.federation import RoundKind, round_attempt
from finsecure_crypto.secagg.messages import Confirmations, Roster, ShareDelivery

from finsecure_client.terms import Task
from finsecure_client.trust import SignedModel


@dataclass(frozen=True)
class Invitation:
    """All public parameters that every kind of round has; under masks phase 1 is open."""

    task: Task
    kind: RoundKind
    number: int
    attempt: int
    attempt_nonce: bytes
    base_model: SignedModel
    invited: int
    minimum_cohort: int = 0  # 0 means the task's

    def attempt_at(self) -> Attempt:
        """Build the parameters from which the round's context is derived.

        Raises:
            InvalidArgumentError: where they are impossible; the aggregator's fault.
        """
        return round_attempt(
            self.task.terms.at_least(self.minimum_cohort),
            task_name=self.task.name,
            spec=self.task.spec,
            kind=self.kind,
            number=self.number,
            attempt=self.attempt,
            attempt_nonce=self.attempt_nonce,
            model_digest=self.base_model.version.sha256,
            invited=self.invited,
        )


@dataclass(frozen=True)
class EncryptedInvitation:
    """An encrypted round; its only phase is open.

    Attributes:
        invitation: what every round has.
        key_digest: digest of the encryption key, 32 bytes.
    """

    invitation: Invitation
    key_digest: bytes


@dataclass(frozen=True)
class Survivors:
    """The clients whose input will be summed; phase 4 is open."""

    bitmap: bytes


@dataclass(frozen=True)
class Outcome:
    """How the round ended for this client."""

    completed: bool
    reason: str
    detail: str


@dataclass(frozen=True)
class Malformed:
    """An instruction that breaks the wire contract, and how."""

    error: ProtocolViolationError


ServerMessage = (
    Invitation
    | EncryptedInvitation
    | Roster
    | ShareDelivery
    | Survivors
    | Confirmations
    | Outcome
    | Malformed
)


@dataclass(frozen=True)
class Instruction:
    """One instruction: the round it is for, what it says, and when its phase closes."""

    round: str
    deadline: datetime
    body: ServerMessage
