"""The keys that sign the checkpoints of a log: the present one, and how former ones gave way to it.

The present key lies in the database, wrapped. It changes in the transaction that announces the
change, so whoever reads the log and its key in one transaction never signs a tree with the wrong
one, in whatever process it runs. A key that has handed over is forgotten.
"""

import os
from dataclasses import dataclass

from finsecure_crypto.checkpoint import LogSigner
from finsecure_crypto.errors import NotFoundError, UnavailableError
from finsecure_crypto.log_keys import ANNOUNCE, Handover
from finsecure_crypto.randomness import draw_secret
from finsecure_crypto.transcript import encode
from sqlalchemy import Connection, Row, insert, select, update

from finsecure_keyservice.audit.log import AuditLog
from finsecure_keyservice.audit.schema import AuditTables
from finsecure_keyservice.audit.trail import Recorder
from finsecure_keyservice.protection.vault import Vault

_SEED_BYTES = 32  # RFC 8032


@dataclass(frozen=True)
class Signed:
    """A checkpoint that stands in the log's history.

    Attributes:
        size: how many events it is about.
        note: the signed checkpoint.
    """

    size: int
    note: str


class LogKeys:
    """The keys of one log; every method runs inside a transaction of its caller.

    Args:
        tables: where they are kept.
        log: the log.
        origin: its name.
        vault: wraps the present key.

    Attributes:
        origin: name of the log.
    """

    def __init__(self, tables: AuditTables, log: AuditLog, origin: str, vault: Vault) -> None:
        self._keys = tables.keys
        self._log = log
        self.origin = origin
        self._vault = vault
        self._opened: tuple[int, LogSigner] | None = None
        self._present = select(self._keys).order_by(self._keys.c.number.desc()).limit(1)

    def create(self, connection: Connection, trail: Recorder) -> LogSigner:
        """Make the first key of an empty log, and name it in the first event."""
        signer = self._make(connection, 0)
        trail.record(ANNOUNCE, self.origin, key=signer.verifier.serialise(), former="")
        return signer

    def rotate(self, connection: Connection, trail: Recorder) -> LogSigner:
        """Make the next key, announce it, hand the log over to it, and forget the present one.

        Raises:
            UnavailableError: AUDIT_UNAVAILABLE, or the token or key-encryption key is away.
            IntegrityError: WRAPPED_KEY_REJECTED.
        """
        number, former = self._open(connection)
        successor = self._make(connection, number + 1)
        trail.record(
            ANNOUNCE,
            self.origin,
            key=successor.verifier.serialise(),
            former=former.verifier.serialise(),
        )
        edge = self._log.edge(connection)
        connection.execute(
            update(self._keys)
            .where(self._keys.c.number == number)
            .values(
                handle=None,
                handover_size=edge.size,
                handover_note=former.sign(edge.size, edge.root, successor),
            )
        )
        return successor

    def signer(self, connection: Connection) -> LogSigner:
        """The present key, for the tree as it is in this transaction.

        Raises:
            UnavailableError: AUDIT_UNAVAILABLE, or the token or key-encryption key is away.
            IntegrityError: WRAPPED_KEY_REJECTED.
        """
        return self._open(connection)[1]

    def handover(self, connection: Connection, verifier_key: str) -> Handover:
        """How a former key gave way to the next one.

        Raises:
            NotFoundError: AUDIT_HANDOVER_NOT_FOUND for the present key, or one of another log.
        """
        query = select(self._keys.c.handover_size, self._keys.c.handover_note).where(
            self._keys.c.verifier_key == verifier_key, self._keys.c.handover_size.is_not(None)
        )
        row = connection.execute(query).first()
        if row is None:
            raise NotFoundError(
                "AUDIT_HANDOVER_NOT_FOUND", "this key has not handed the audit log over to another"
            )
        index = row.handover_size - 1
        (entry,) = self._log.entries(connection, index, 1)
        proof = self._log.tree(connection, row.handover_size).inclusion_proof(index)
        return Handover(index, entry.leaf, row.handover_note, proof)

    def next_handover(self, connection: Connection, size: int) -> Signed | None:
        """The checkpoint of the first handover of more than so many events, if there is one."""
        query = (
            select(self._keys.c.handover_size, self._keys.c.handover_note)
            .where(self._keys.c.handover_size > size)
            .order_by(self._keys.c.handover_size)
            .limit(1)
        )
        row = connection.execute(query).first()
        return None if row is None else Signed(row.handover_size, row.handover_note)

    def rewrap(self, connection: Connection) -> None:
        """Wrap the present key anew, with the newest version of the key-encryption key."""
        row = self._row(connection)
        handle = self._vault.rewrap(row.handle, self._context(row.number))
        connection.execute(
            update(self._keys).where(self._keys.c.number == row.number).values(handle=handle)
        )

    def _make(self, connection: Connection, number: int) -> LogSigner:
        seed = draw_secret(os.urandom, _SEED_BYTES)
        signer = LogSigner.from_seed(self.origin, seed)
        connection.execute(
            insert(self._keys).values(
                number=number,
                verifier_key=signer.verifier.serialise(),
                handle=self._vault.keep_secret(seed, self._context(number)),
            )
        )
        return signer

    def _open(self, connection: Connection) -> tuple[int, LogSigner]:
        row = self._row(connection)
        if self._opened is None or self._opened[0] != row.number:
            seed = self._vault.open_secret(row.handle, self._context(row.number))
            self._opened = row.number, LogSigner.from_seed(self.origin, seed)
        return self._opened

    def _row(self, connection: Connection) -> Row[tuple[object, ...]]:
        row = connection.execute(self._present).first()
        if row is None:
            raise UnavailableError(
                "AUDIT_UNAVAILABLE",
                "the audit log has no key: restore the database from its backup",
            )
        return row

    def _context(self, number: int) -> bytes:
        return encode("audit-checkpoint-key", self.origin, number)
