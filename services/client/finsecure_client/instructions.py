"""What the aggregator tells a client of a round, as plain frozen types."""

from dataclasses import dataclass
from datetime import datetime

from finsecure_crypto.errors import ProtocolViolationError
from finsecure_crypto.federation import RoundKind, round_parameters
from finsecure_crypto.secagg.messages import Confirmations, Roster, ShareDelivery
from finsecure_crypto.secagg.parameters import RoundParameters

from finsecure_client.terms import Task
from finsecure_client.trust import SignedModel


@dataclass(frozen=True)
class Invitation:
    """All public parameters of a round; phase 1 is open."""

    task: Task
    kind: RoundKind
    number: int
    attempt: int
    attempt_nonce: bytes
    base_model: SignedModel
    invited: int

    def parameters(self) -> RoundParameters:
        """Build the parameters from which the round's context is derived.

        Raises:
            InvalidArgumentError: where they are impossible; the aggregator's fault.
        """
        return round_parameters(
            self.task.terms,
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
    Invitation | Roster | ShareDelivery | Survivors | Confirmations | Outcome | Malformed
)


@dataclass(frozen=True)
class Instruction:
    """One instruction: the round it is for, what it says, and when its phase closes."""

    round: str
    deadline: datetime
    body: ServerMessage
