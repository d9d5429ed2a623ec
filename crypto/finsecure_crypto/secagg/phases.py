"""The one table of what may be said when; code, tests and the documents' diagram come from it."""

from dataclasses import dataclass
from enum import StrEnum

from finsecure_crypto.errors import StateError
from finsecure_crypto.secagg import messages


class Phase(StrEnum):
    """Where a round stands."""

    ADVERTISE_KEYS = "AdvertiseKeys"
    SHARE_KEYS = "ShareKeys"
    SUBMIT_MASKED_INPUT = "SubmitInput"
    CONFIRM_SURVIVORS = "ConfirmSurvivors"
    REVEAL_SHARES = "RevealShares"
    UNMASKED = "Unmasked"


@dataclass(frozen=True)
class Step:
    """One phase.

    Attributes:
        phase: which.
        instruction: what the server sends to each client that is still in the round.
        answer: the one message that a client may send.
        after: the phase that follows when enough clients have answered.
        set_name: the papers' name of the set of those that answered.
    """

    phase: Phase
    instruction: str
    answer: type[messages.ClientMessage]
    after: Phase
    set_name: str


STEPS: tuple[Step, ...] = (
    Step(
        Phase.ADVERTISE_KEYS,
        "RoundParameters",
        messages.KeyAdvertisement,
        Phase.SHARE_KEYS,
        "U1",
    ),
    Step(
        Phase.SHARE_KEYS,
        "Roster",
        messages.KeyShares,
        Phase.SUBMIT_MASKED_INPUT,
        "U2",
    ),
    Step(
        Phase.SUBMIT_MASKED_INPUT,
        "ShareDelivery",
        messages.MaskedInputHeader,
        Phase.CONFIRM_SURVIVORS,
        "U3",
    ),
    Step(
        Phase.CONFIRM_SURVIVORS,
        "survivors",
        messages.SurvivorConfirmation,
        Phase.REVEAL_SHARES,
        "U4",
    ),
    Step(
        Phase.REVEAL_SHARES,
        "Confirmations",
        messages.RevealedShares,
        Phase.UNMASKED,
        "U5",
    ),
)

_ANSWERED_IN = {step.answer: step.phase for step in STEPS}


def phase_of(message: messages.ClientMessage) -> Phase:
    """Returns the phase to which a client's message belongs."""
    return _ANSWERED_IN[type(message)]


def require(phase: Phase, message: messages.ClientMessage, client: str) -> None:
    """Refuses a message that does not belong to the open phase.

    Raises:
        StateError: `OUT_OF_PHASE`; the message is late, or comes before its instruction.
    """
    belongs = phase_of(message)
    if belongs is not phase:
        raise StateError(
            "OUT_OF_PHASE",
            f"{type(message).__name__} belongs to {belongs}, the round is in {phase}; "
            "wait for the next instruction",
            culprit=client,
        )


def diagram() -> str:
    """Draws the table as a Mermaid sequence diagram."""
    lines = ["sequenceDiagram", "    participant C as client", "    participant S as aggregator"]
    for each in STEPS:
        lines += [
            "    rect rgb(245, 245, 245)",
            f"    note over C,S: {each.phase}",
            f"    S->>C: {each.instruction}",
            f"    C->>S: {each.answer.__name__}",
            f"    note over S: {each.set_name} = clients that answered (too few: abort)",
            "    end",
        ]
    lines.append(f"    note over S: {STEPS[-1].after}: the sum over {STEPS[2].set_name}")
    return "\n".join(lines) + "\n"
