"""Who may speak in a round, who has, and how long the open phase waits for the others."""

from collections.abc import Callable, Iterable, Sequence

from finsecure_crypto.errors import FinSecureError, PermissionDeniedError, StateError

from finsecure_aggregator.records import PhaseRecord, RoundKey, RoundRecord, RoundState
from finsecure_aggregator.watchers import Presence


class Attendance:
    """The clients of one round.

    Args:
        invited: their ids.
        phases: in which they speak.
        presence: who is connected.
        grace_ns: how long a phase waits for a client that has lost its connection, once enough
            others have answered.
    """

    def __init__(
        self,
        invited: Iterable[str],
        phases: Sequence[RoundState],
        presence: Presence,
        grace_ns: int,
    ) -> None:
        self._invited = frozenset(invited)
        self._accepted: dict[RoundState, set[str]] = {phase: set() for phase in phases}
        self._declined: set[str] = set()
        self._missing: set[str] = set(self._invited)  # who may still answer in the open phase
        self._presence = presence
        self._grace_ns = grace_ns

    def answered(self, phase: RoundState, client: str) -> bool:
        """Whether a client's message of a phase was accepted."""
        return client in self._accepted.get(phase, ())

    def those_in(self, phase: RoundState) -> Sequence[str]:
        """Clients whose message of a phase was accepted, by id."""
        return sorted(self._accepted[phase])

    def declined(self, client: str) -> bool:
        """Whether a client has left the round."""
        return client in self._declined

    def record(self, phase: RoundState, client: str) -> None:
        """Note an accepted message."""
        self._accepted[phase].add(client)
        self._missing.discard(client)

    def withdraw(self, client: str) -> None:
        """Stop waiting for a client that has left."""
        self._declined.add(client)
        self._missing.discard(client)

    def await_all(self, phase: RoundState, expected: frozenset[str]) -> None:
        """Wait for all that may answer in a phase that has opened."""
        self._missing = set(expected - self._accepted.get(phase, set()) - self._declined)

    def require_invited(self, client: str, key: RoundKey) -> None:
        """Refuse others; PermissionDeniedError CLIENT_NOT_EXPECTED."""
        if client not in self._invited:
            raise not_invited(client, key)

    def require_awaited(self, record: RoundRecord, phase: RoundState, client: str) -> None:
        """Refuse a message that is not awaited; a repetition of an accepted one is.

        Raises:
            PermissionDeniedError: CLIENT_NOT_EXPECTED.
            StateError: ROUND_DECLINED or WRONG_PHASE.
        """
        if self.answered(phase, client):
            return
        self.require_invited(client, record.key)
        if client in self._declined:
            raise StateError(
                "ROUND_DECLINED",
                f"{client} has declined {record.key.name}; wait for the next round",
            )
        if record.state is not phase or phase not in self._accepted:
            raise wrong_phase(record, phase)

    def closes_at(self, phase: PhaseRecord, enough: Callable[[], bool]) -> int:
        """When the open phase closes as things stand; 0 means at once.

        Args:
            phase: that is open.
            enough: tells whether the round could go on without those that are missing; asked only
                where it matters, for it costs time.
        """
        last_left_ns = 0
        for client in self._missing:
            left_ns = self._presence.absent_since_ns(client)
            if left_ns is None:
                return phase.deadline_ns
            last_left_ns = max(last_left_ns, left_ns)
        if not self._missing:
            return 0
        if not enough():
            return phase.deadline_ns
        return min(phase.deadline_ns, last_left_ns + self._grace_ns)


def wrong_phase(record: RoundRecord, phase: RoundState) -> StateError:
    """Make the error for a message of a phase that is not open."""
    return StateError(
        "WRONG_PHASE",
        f"{record.key.name} is in the phase {record.state.value}, the message belongs to "
        f"{phase.value}; wait for the next instruction",
    )


def not_invited(client: str, key: RoundKey) -> FinSecureError:
    """Make the error for a client that a round has not invited."""
    return PermissionDeniedError(
        "CLIENT_NOT_EXPECTED",
        f"{client} was not invited to {key.name}; wait for the next round",
        culprit=client,
    )
