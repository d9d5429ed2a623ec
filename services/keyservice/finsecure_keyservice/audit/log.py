"""The log in a database: appending within the transaction of a decision, reading, proving.

Appending costs three or four statements whatever the size of the log: the head row holds the right
edge of the tree, and the hashes of complete subtrees are stored as they come into being. A proof
reads the few of them that it needs. Source: RFC 9162, section 2.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from finsecure_crypto.errors import InvalidArgumentError, NotFoundError, UnavailableError
from finsecure_crypto.merkle import HASH_BYTES, Edge, StoredTree, leaf_hash
from sqlalchemy import Connection, bindparam, insert, select, update

from finsecure_keyservice.audit.schema import AuditTables

_HEAD = 1


@dataclass(frozen=True)
class Entry:
    """One event of the log.

    Attributes:
        index: its place, from 0.
        leaf: the event, as `finsecure_crypto.audit_event` encodes it.
    """

    index: int
    leaf: bytes


class AuditLog:
    """Append-only; every method runs inside a transaction of its caller."""

    def __init__(self, tables: AuditTables) -> None:
        self._tables = tables
        head = tables.head.c
        # Built once: they run for each event.
        self._read_head = select(head.size, head.edge).where(head.id == _HEAD).with_for_update()
        self._write_head = (
            update(tables.head)
            .where(head.id == _HEAD)
            .values(size=bindparam("new_size"), edge=bindparam("new_edge"))
        )
        self._add_event = insert(tables.events)
        self._add_nodes = insert(tables.nodes)

    def create(self, connection: Connection) -> None:
        """Begin an empty log; its tables exist."""
        connection.execute(insert(self._tables.head).values(id=_HEAD, size=0, edge=b""))

    def edge(self, connection: Connection) -> Edge:
        """The right edge of the tree, which holds its size and its root.

        Raises:
            UnavailableError: AUDIT_UNAVAILABLE when the head of the log is missing or damaged.
        """
        row = connection.execute(self._read_head).first()
        if row is not None and len(row.edge) == HASH_BYTES * row.size.bit_count():
            hashes = (row.edge[at : at + HASH_BYTES] for at in range(0, len(row.edge), HASH_BYTES))
            return Edge(row.size, tuple(hashes))
        raise UnavailableError(
            "AUDIT_UNAVAILABLE",
            "The audit log has no head or a damaged one, so nothing can be decided: restore the "
            "database from its backup.",
        )

    def append(
        self,
        connection: Connection,
        edge: Edge,
        leaf: bytes,
        subject: str,
        published: bytes | None = None,
    ) -> None:
        """Add an event behind the edge that was read in the same transaction.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: when it cannot be written; the transaction is lost,
                and with it what the event was to record.
        """
        grown, completed = edge.append(leaf)
        connection.execute(
            self._add_event,
            {"position": edge.size, "leaf": leaf, "subject": subject, "published": published},
        )
        inner = [node._asdict() for node in completed[1:]]  # the leaf itself is in the events
        if inner:
            connection.execute(self._add_nodes, inner)
        connection.execute(
            self._write_head, {"new_size": grown.size, "new_edge": b"".join(grown.hashes)}
        )

    def touch(self, connection: Connection) -> None:
        """Write the head as it is: fails, like an event would, when nothing can be written."""
        edge = self.edge(connection)
        connection.execute(
            self._write_head, {"new_size": edge.size, "new_edge": b"".join(edge.hashes)}
        )

    def entries(
        self, connection: Connection, start: int, limit: int, subject: str = ""
    ) -> Sequence[Entry]:
        """At most `limit` events from an index on, all or those of one subject."""
        events = self._tables.events
        query = (
            select(events.c.position, events.c.leaf)
            .where(events.c.position >= start)
            .order_by(events.c.position)
            .limit(limit)
        )
        if subject:
            query = query.where(events.c.subject == subject)
        return [Entry(row.position, row.leaf) for row in connection.execute(query)]

    def publication(self, connection: Connection, subject: str, digest: bytes) -> Entry:
        """The newest event that made a digest public for a subject.

        Raises:
            NotFoundError: PUBLICATION_NOT_FOUND.
        """
        events = self._tables.events
        query = (
            select(events.c.position, events.c.leaf)
            .where(events.c.subject == subject, events.c.published == digest)
            .order_by(events.c.position.desc())
            .limit(1)
        )
        row = connection.execute(query).first()
        if row is None:
            raise NotFoundError(
                "PUBLICATION_NOT_FOUND",
                "The audit log has no such publication: do not use what claims to be it, and tell "
                "the operator.",
            )
        return Entry(row.position, row.leaf)

    def tree(self, connection: Connection, size: int) -> StoredTree:
        """The tree of the first `size` events, for its root and its proofs.

        Raises:
            InvalidArgumentError: TREE_SIZE when the log is not that long; the caller's.
        """
        if not 0 <= size <= self.edge(connection).size:
            raise InvalidArgumentError("TREE_SIZE", f"the log does not have {size} events")
        events, nodes = self._tables.events.c, self._tables.nodes.c

        def node(level: int, position: int) -> bytes:
            if level == 0:
                leaf = select(events.leaf).where(events.position == position)
                return leaf_hash(connection.execute(leaf).scalar_one())
            query = select(nodes.hash).where(nodes.level == level, nodes.position == position)
            found: bytes = connection.execute(query).scalar_one()
            return found

        return StoredTree(size, node)
