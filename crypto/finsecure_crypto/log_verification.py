"""What whoever relies on an audit log checks; the log's owner is not trusted.

A log that was cut, rewritten, or restored from an older copy contradicts a checkpoint that
somebody remembers. Source: RFC 9162, sections 2.1.3 to 2.1.5; C2SP tlog-checkpoint.
"""

from collections.abc import Sequence

from finsecure_crypto.audit_event import Event
from finsecure_crypto.checkpoint import Checkpoint
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.merkle import Edge, verify_consistency, verify_inclusion


def check_not_shorter(remembered: Checkpoint, newer: Checkpoint) -> None:
    """Refuse a log that has lost events since a remembered checkpoint.

    Raises:
        IntegrityError: `AUDIT_LOG_ROLLED_BACK`; the log's fault.
    """
    if newer.size < remembered.size:
        raise IntegrityError(
            "AUDIT_LOG_ROLLED_BACK",
            f"the audit log had {remembered.size} events and now has {newer.size}: it was cut or "
            "restored from an old copy; keep your checkpoint and ask the operator",
        )


def verify_growth(remembered: Checkpoint, newer: Checkpoint, proof: Sequence[bytes]) -> None:
    """Demand that a log only grew since a remembered checkpoint.

    Raises:
        IntegrityError: `AUDIT_LOG_ROLLED_BACK` or `AUDIT_LOG_FORKED`; the log's fault.
    """
    check_not_shorter(remembered, newer)
    if remembered.origin != newer.origin or not verify_consistency(
        remembered.size, remembered.root, newer.size, newer.root, proof
    ):
        raise _forked(newer)


def verify_event(checkpoint: Checkpoint, index: int, leaf: bytes, proof: Sequence[bytes]) -> Event:
    """Demand that an event is in the log that a checkpoint commits to, and read it.

    Raises:
        IntegrityError: `AUDIT_PROOF_INVALID` or `AUDIT_EVENT_MALFORMED`; the log's fault.
    """
    if verify_inclusion(checkpoint.root, checkpoint.size, index, leaf, proof):
        event = Event.parse(leaf)
        if event.index == index:
            return event
    raise IntegrityError(
        "AUDIT_PROOF_INVALID",
        f"the proof that event {index} is in the audit log does not verify; ask the operator",
    )


class LogReader:
    """Reads a log from its first event on and compares it with checkpoints on the way.

    Args:
        remembered: a checkpoint that the log has to agree with when it gets there.
    """

    def __init__(self, remembered: Checkpoint | None = None) -> None:
        self._edge = Edge()
        self._remembered = remembered

    @property
    def size(self) -> int:
        """How many events were read."""
        return self._edge.size

    def take(self, leaf: bytes) -> Event:
        """Take the next event.

        Raises:
            IntegrityError: `AUDIT_EVENT_MALFORMED`; `AUDIT_LOG_FORKED` when it is not the next
                or contradicts the remembered checkpoint; the log's fault.
        """
        event = Event.parse(leaf)
        if event.index != self._edge.size:
            raise IntegrityError(
                "AUDIT_LOG_FORKED",
                f"event {self._edge.size} of the audit log is missing: event {event.index} is in "
                "its place",
            )
        self._edge, _ = self._edge.append(leaf)
        if self._remembered is not None and self._edge.size == self._remembered.size:
            self.check(self._remembered)
        return event

    def check(self, checkpoint: Checkpoint) -> None:
        """Compare what was read with a checkpoint of the same size.

        Raises:
            IntegrityError: `AUDIT_LOG_ROLLED_BACK` when fewer events were read;
                `AUDIT_LOG_FORKED` when it is another log; the log's fault.
        """
        if self._edge.size < checkpoint.size:
            raise IntegrityError(
                "AUDIT_LOG_ROLLED_BACK",
                f"a checkpoint commits to {checkpoint.size} events and there are only "
                f"{self._edge.size}: the end was cut off",
            )
        if (self._edge.size, self._edge.root) != (checkpoint.size, checkpoint.root):
            raise _forked(checkpoint)

    def finish(self) -> None:
        """Demand that the remembered checkpoint was reached.

        Raises:
            IntegrityError: `AUDIT_LOG_ROLLED_BACK`; the log's fault.
        """
        if self._remembered is not None and self.size < self._remembered.size:
            self.check(self._remembered)


def _forked(checkpoint: Checkpoint) -> IntegrityError:
    return IntegrityError(
        "AUDIT_LOG_FORKED",
        f"the audit log of {checkpoint.size} events is not the one that was there before: its "
        "history was changed; keep your checkpoint and ask the operator",
    )
