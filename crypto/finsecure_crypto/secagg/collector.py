"""What all phases of the server have in common: who may answer, once, and what was said before."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from finsecure_crypto.errors import PermissionDeniedError, ProtocolViolationError
from finsecure_crypto.secagg import phases
from finsecure_crypto.secagg.messages import ClientMessage
from finsecure_crypto.secagg.phases import Phase

Message = TypeVar("Message", bound=ClientMessage)
Verified = TypeVar("Verified")
History = dict[tuple[Phase, str], bytes]
"""Digest of each accepted message, of the open phase and those before."""


class Collector(ABC, Generic[Message]):
    """Collects one phase's answers.

    Attributes:
        phase: the phase.
        expected: ids of the clients that may answer.
    """

    phase: ClassVar[Phase]

    def __init__(self, expected: frozenset[str], history: History) -> None:
        self.expected = expected
        self._history = history
        self._accepted: dict[str, None] = {}

    @property
    def accepted(self) -> frozenset[str]:
        """Ids of the clients whose answer was accepted."""
        return frozenset(self._accepted)

    @property
    def complete(self) -> bool:
        """Whether all have answered that could."""
        return self.expected <= self._accepted.keys()

    @abstractmethod
    def close(self) -> object:
        """Ends the phase and returns the next; raises StateError when too few have answered."""

    def _is_new(self, client: str, message: ClientMessage) -> bool:
        """Checks a message without accepting it."""
        known = self._history.get((phases.phase_of(message), client))
        if known is not None:
            if known == message.digest():
                return False
            raise ProtocolViolationError(
                "DUPLICATE_MESSAGE",
                f"{client} sent a second, different {type(message).__name__}; the first one stands",
                culprit=client,
            )
        phases.require(self.phase, message, client)
        if client not in self.expected:
            raise PermissionDeniedError(
                "CLIENT_NOT_EXPECTED",
                f"{client} was not invited to this round or missed an earlier phase; "
                "wait for the next round",
                culprit=client,
            )
        return True

    def _record(self, client: str, message: Message) -> None:
        self._accepted[client] = None
        self._history[self.phase, client] = message.digest()


class AnswerCollector(Collector[Message], Generic[Message, Verified]):
    """Collects answers of clients that are in the roster."""

    def check(self, client: str, message: ClientMessage) -> bool:
        """Verifies a message without accepting it.

        Returns:
            True for a message to accept, False for one that was accepted before, in this phase or
            an earlier one.

        Raises:
            ProtocolViolationError: `DUPLICATE_MESSAGE` for a different message of the same kind,
                or one of the phase's own codes; `culprit` names the client.
            StateError: `OUT_OF_PHASE`.
            PermissionDeniedError: `CLIENT_NOT_EXPECTED`.
        """
        if not self._is_new(client, message):
            return False
        self._verify(client, message)  # type: ignore[arg-type]  # phases.require saw to its type
        return True

    def accept(self, client: str, message: ClientMessage) -> bool:
        """Verifies and accepts a message; raises and returns as `check`."""
        if not self._is_new(client, message):
            return False
        verified = self._verify(client, message)  # type: ignore[arg-type]  # as above
        self._keep(client, verified)
        self._record(client, message)  # type: ignore[arg-type]
        return True

    @abstractmethod
    def _verify(self, client: str, message: Message) -> Verified:
        """Returns what is to be kept; raises ProtocolViolationError where the message is wrong."""

    @abstractmethod
    def _keep(self, client: str, verified: Verified) -> None:
        """Keeps what later phases need of a message."""


def violation(code: str, client: str, reason: str) -> ProtocolViolationError:
    """Makes the error for a client's message that no honest client sends."""
    return ProtocolViolationError(
        code, f"{client} broke the protocol: {reason}; it counts as dropped out", culprit=client
    )
