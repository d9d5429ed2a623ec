"""How much of the aggregator one member's contributions to one sum may take."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from finsecure_crypto.errors import ProtocolViolationError, ResourceExhaustedError

_MOST_REFUSED = 10


class Turns:
    """One contribution of a member to a sum at a time, and few that are refused.

    In memory: a restart forgets what was refused.
    """

    def __init__(self) -> None:
        self._taken: set[tuple[str, str]] = set()
        self._refused: dict[str, Counter[str]] = {}

    @contextmanager
    def of(self, sum_: str, client: str) -> Iterator[None]:
        """Take a member's turn.

        Raises:
            ResourceExhaustedError: CONTRIBUTION_IN_PROGRESS.
        """
        if (sum_, client) in self._taken:
            raise ResourceExhaustedError(
                "CONTRIBUTION_IN_PROGRESS",
                f"a contribution of {client} to {sum_} is being looked into; send the same again "
                "in a moment to hear what came of it",
            )
        self._taken.add((sum_, client))
        try:
            yield
        finally:
            self._taken.discard((sum_, client))

    @contextmanager
    def examining(self, sum_: str, client: str) -> Iterator[None]:
        """Count what is refused within.

        Raises:
            ResourceExhaustedError: CONTRIBUTIONS_REFUSED, after too many.
        """
        refused = self._refused.get(sum_, Counter())
        if refused[client] >= _MOST_REFUSED:
            raise ResourceExhaustedError(
                "CONTRIBUTIONS_REFUSED",
                f"{_MOST_REFUSED} contributions of {client} to {sum_} were refused, and no more "
                "are looked into; use an unchanged client, for the next sum",
            )
        try:
            yield
        except ProtocolViolationError:
            self._refused.setdefault(sum_, refused)[client] += 1
            raise

    def forget(self, sum_: str) -> None:
        """Forget what was refused for a sum that has ended."""
        self._refused.pop(sum_, None)
