"""What the documents of rounds say."""

from finsecure_cli.convert import Document

ROUND_ENDS = frozenset({"completed", "aborted"})
"""States in which a round has ended."""


def summed(round_: Document) -> list[str]:
    """Return the clients whose input was accepted: those of the third phase, the paper's U3."""
    return next(
        (list(phase["clients"]) for phase in round_["phases"] if phase["phase"] == "submit_input"),
        [],
    )
