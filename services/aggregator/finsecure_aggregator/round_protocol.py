"""The interface between a round's course, which all kinds have in common, and its protocol.

`rounds.RoundDriver` keeps the log, the clock and who is awaited; what the messages mean and how
the sum comes about is here: `masked_round.MaskedRound`, `encrypted_round.EncryptedRound`.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import NDArray

from finsecure_aggregator.instructions import Body, ClientMessage
from finsecure_aggregator.records import RoundState, TrusteeAnswer

Sums = Mapping[str, NDArray[Any]]
WORKERS_LOST = "WORKERS_LOST"
"""Reason code of an UnavailableError: workers died again and again over what lies on the disk."""


class RoundProtocol(Protocol):
    """One round's protocol: verifies messages, closes phases, makes the sum.

    The methods up to `instruction` are called by one thread at a time, those below by another.
    """

    @property
    def phases(self) -> Sequence[RoundState]:
        """In which clients speak, in order."""

    @property
    def finale(self) -> RoundState:
        """What follows on them: the sum is being made."""

    @property
    def input_bytes(self) -> int:
        """Bytes of an input."""

    @property
    def expected(self) -> frozenset[str]:
        """Clients that may answer in the open phase."""

    @property
    def blamed(self) -> Sequence[tuple[str, str]]:
        """(client id, reason code) of those that what came after their messages has shown wrong."""

    def restoring(self) -> AbstractContextManager[None]:
        """Take what is accepted meanwhile as verified: it comes from the own log."""

    def check(self, client: str, message: ClientMessage) -> bool:
        """Verify a message without accepting it; False if it has been accepted before.

        Raises:
            FinSecureError: what is wrong with it.
        """

    def accept(self, client: str, message: ClientMessage) -> bool:
        """Verify and accept a message; raises and returns as `check`."""

    def enough(self) -> bool:
        """Whether the open phase could close with those that have answered."""

    def turn(self, phase: RoundState) -> None:
        """Close a phase and open the next.

        Raises:
            StateError: too few have answered.
        """

    def instruction(self, client: str) -> Body:
        """What the open phase asks of a client."""

    async def examine_input(self, client: str) -> None:
        """Look into a client's whole input before its header is accepted.

        Raises:
            ProtocolViolationError: what is wrong with it; the client's fault.
        """

    async def add_inputs(self, clients: Sequence[str]) -> None:
        """Add accepted inputs to the sum; each client's once."""

    async def sum(self, deadline_ns: int) -> Sums:
        """Open the sum, once all phases are closed.

        Args:
            deadline_ns: of the finale; only a protocol that has to ask others looks at it.

        Raises:
            FinSecureError: why there is none.
        """

    def trustees(self) -> Sequence[TrusteeAnswer]:
        """What trustees have said so far."""

    async def close(self) -> None:
        """Let go of what sums the inputs, whether there is a sum or not."""
