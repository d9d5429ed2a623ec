"""Tables of an audit log."""

from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
)


@dataclass(frozen=True)
class AuditTables:
    """Where a log is kept.

    Attributes:
        events: the leaves; `published` is the digest of what an event makes public, if any.
        nodes: hashes of all complete subtrees of two leaves and more.
        head: one row with the size and the right edge of the tree.
        keys: those that sign, in their order; the last one signs now. Of a former one only the
            public key is left, and the checkpoint by which it handed the log over.
    """

    events: Table
    nodes: Table
    head: Table
    keys: Table


def audit_tables(metadata: MetaData) -> AuditTables:
    """Declare the tables of a log beside those whose changes it records."""
    events = Table(
        "audit_events",
        metadata,
        Column("position", BigInteger, primary_key=True, autoincrement=False),
        Column("leaf", LargeBinary, nullable=False),
        Column("subject", String(1024), nullable=False),
        Column("published", LargeBinary(32)),
        Index("audit_events_by_subject", "subject", "position"),
    )
    nodes = Table(
        "audit_nodes",
        metadata,
        Column("level", Integer, nullable=False),
        Column("position", BigInteger, nullable=False),
        Column("hash", LargeBinary(32), nullable=False),
        PrimaryKeyConstraint("level", "position"),
        sqlite_with_rowid=False,
    )
    head = Table(
        "audit_head",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("size", BigInteger, nullable=False),
        Column("edge", LargeBinary, nullable=False),
    )
    keys = Table(
        "audit_keys",
        metadata,
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("verifier_key", String(512), nullable=False, unique=True),
        Column("handle", LargeBinary),
        Column("handover_size", BigInteger),
        Column("handover_note", String(4096)),
    )
    return AuditTables(events, nodes, head, keys)
