"""What a round asks of its clients or tells them, and what they say, as plain frozen types."""

from dataclasses import dataclass

from finsecure_crypto.homomorphic.rounds import EncryptedInputHeader
from finsecure_crypto.secagg import messages

from finsecure_aggregator.records import ModelRecord, RoundKey, RoundRecord, RoundState, TaskRecord


@dataclass(frozen=True)
class Outcome:
    """How a round ended, as each of its clients hears it."""

    state: RoundState
    reason: str
    detail: str


@dataclass(frozen=True)
class Invitation:
    """What opens a round for a client."""

    task: TaskRecord
    round: RoundRecord
    base_model: ModelRecord


@dataclass(frozen=True)
class EncryptedInvitation:
    """What opens an encrypted round for a client.

    Attributes:
        invitation: what every round has.
        key_digest: digest of the encryption key, 32 bytes.
    """

    invitation: Invitation
    key_digest: bytes


ClientMessage = messages.ClientMessage | EncryptedInputHeader
Body = (
    Invitation
    | EncryptedInvitation
    | messages.Roster
    | messages.ShareDelivery
    | bytes
    | messages.Confirmations
    | Outcome
)


@dataclass(frozen=True)
class Instruction:
    """One thing that a round asks of, or tells, one client.

    Attributes:
        key: of the round.
        state: that the round is in; with `key` it identifies the instruction.
        deadline_ns: when the phase closes.
        body: what to do; bare bytes are the bitmap of survivors.
    """

    key: RoundKey
    state: RoundState
    deadline_ns: int
    body: Body
