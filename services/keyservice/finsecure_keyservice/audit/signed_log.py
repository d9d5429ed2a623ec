"""Reading the log together with the checkpoints that sign it, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from finsecure_keyservice.audit.keys import LogKeys, Signed
from finsecure_keyservice.audit.log import AuditLog, Entry


@dataclass(frozen=True)
class Batch:
    """Some events in their order.

    Attributes:
        entries: the events.
        note: signed checkpoint of the log up to here, or empty.
        size: how many events the log has.
    """

    entries: Sequence[Entry]
    note: str
    size: int


@dataclass(frozen=True)
class SignedLog:
    """A log with its keys; every method runs inside a transaction of its caller.

    Attributes:
        log: the events.
        keys: what signs them.
    """

    log: AuditLog
    keys: LogKeys

    def checkpoint(self, connection: Connection) -> Signed:
        """The checkpoint of the log as it is, signed by its present key."""
        edge = self.log.edge(connection)
        return Signed(edge.size, self.keys.signer(connection).sign(edge.size, edge.root))

    def batch(self, connection: Connection, start: int, limit: int, signed: int) -> Batch:
        """At most `limit` events from an index on, with a checkpoint where one belongs.

        One belongs behind the newest event and behind each one that hands the log over to another
        key, where a batch therefore ends; but not twice for the same size.

        Args:
            connection: the transaction.
            start: index of the first event.
            limit: most events.
            signed: size of the last checkpoint that whoever reads has.
        """
        size = self.log.edge(connection).size
        handover = self.keys.next_handover(connection, signed)
        end = size if handover is None else handover.size
        count = max(0, min(limit, end - start))
        reached = start + count
        note = ""
        if reached >= end and reached != signed:
            note = (handover or self.checkpoint(connection)).note
        return Batch(self.log.entries(connection, start, count), note, size)
