"""What the documents of rounds say."""

from finsecure_cli.convert import Document

ROUND_ENDS = frozenset({"completed", "aborted"})
"""States in which a round has ended."""


_MASKED_COURSE = (
    "advertise_keys",
    "share_keys",
    "submit_input",
    "confirm_survivors",
    "reveal_shares",
    "unmasking",
)
_ENCRYPTED_COURSE = ("submit_input", "opening")


def encrypted(round_: Document) -> bool:
    """Tell whether a round's inputs are encrypted, rather than masked: such a round has no keys."""
    phases = [phase["phase"] for phase in round_["phases"]] or [round_["state"]]
    return phases[0] in _ENCRYPTED_COURSE


def course(round_: Document) -> tuple[str, ...]:
    """Return the states that a round goes through on its way to its end."""
    return _ENCRYPTED_COURSE if encrypted(round_) else _MASKED_COURSE


def summed(round_: Document) -> list[str]:
    """Return the clients whose input was accepted (under masks the paper's U3)."""
    return next(
        (list(phase["clients"]) for phase in round_["phases"] if phase["phase"] == "submit_input"),
        [],
    )
