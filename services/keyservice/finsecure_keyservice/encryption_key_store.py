"""Public homomorphic keys in the key service's database."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from finsecure_crypto.homomorphic.key_record import (
    Endorsement,
    Generation,
    KeyDescription,
    KeyState,
)
from finsecure_crypto.homomorphic.mode import Mode
from sqlalchemy import Connection, delete, func, insert, select, update

from finsecure_keyservice.audit.trail import Recorder
from finsecure_keyservice.schema import ENCRYPTION_KEYS, ENDORSEMENTS


@dataclass(frozen=True)
class EncryptionKeyRecord:
    """A registered key, without the public key itself.

    Attributes:
        description: what the trustees have signed.
        parent: `federations/{federation}`.
        size_bytes: of the public key.
        endorsements: the trustees' signatures, by holder.
        state: where the key stands.
        create_time: when it was registered.
        endorse_time: when the endorsements were taken in.
    """

    description: KeyDescription
    parent: str
    size_bytes: int
    endorsements: tuple[Endorsement, ...] = field(repr=False)
    state: KeyState
    create_time: datetime
    endorse_time: datetime


_COLUMNS = [column for column in ENCRYPTION_KEYS.c if column.name != "public_key"]
_SIZE = func.length(ENCRYPTION_KEYS.c.public_key).label("size_bytes")


class EncryptionKeyStore:
    """Registered keys within one transaction; `trail` records what becomes of them."""

    def __init__(self, connection: Connection, trail: Recorder) -> None:
        self._connection = connection
        self.trail = trail

    def add(self, record: EncryptionKeyRecord, public_key: bytes) -> None:
        """Add a key whose name is free and whose federation exists."""
        description = record.description
        self._connection.execute(
            insert(ENCRYPTION_KEYS).values(
                name=description.name,
                parent=record.parent,
                mode=description.mode.value,
                generation=description.generation.value,
                holders=description.holders,
                threshold=description.threshold,
                digest=description.digest,
                public_key=public_key,
                state=record.state.value,
                create_time=record.create_time,
                endorse_time=record.endorse_time,
            )
        )
        self._add_endorsements(description.name, record.endorsements)

    def get(self, name: str) -> EncryptionKeyRecord | None:
        """Read one key."""
        query = select(*_COLUMNS, _SIZE).where(ENCRYPTION_KEYS.c.name == name)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else self._record(row)

    def page(self, parent: str, after: str, limit: int) -> Sequence[EncryptionKeyRecord]:
        """At most `limit` keys of a parent in the order of their names, from behind `after`."""
        query = (
            select(*_COLUMNS, _SIZE)
            .where(ENCRYPTION_KEYS.c.parent == parent, ENCRYPTION_KEYS.c.name > after)
            .order_by(ENCRYPTION_KEYS.c.name)
            .limit(limit)
        )
        return [self._record(row) for row in self._connection.execute(query).all()]

    def public_key(self, name: str) -> bytes:
        """Read the public key of a key that exists."""
        query = select(ENCRYPTION_KEYS.c.public_key).where(ENCRYPTION_KEYS.c.name == name)
        found: bytes = self._connection.execute(query).scalar_one()
        return found

    def replace_endorsements(
        self, name: str, endorsements: Sequence[Endorsement], time: datetime
    ) -> None:
        """Write the endorsements of a key that exists anew."""
        self._connection.execute(delete(ENDORSEMENTS).where(ENDORSEMENTS.c.key_name == name))
        self._add_endorsements(name, endorsements)
        self._connection.execute(
            update(ENCRYPTION_KEYS).where(ENCRYPTION_KEYS.c.name == name).values(endorse_time=time)
        )

    def set_state(self, name: str, state: KeyState) -> None:
        """Write where a key stands now."""
        self._connection.execute(
            update(ENCRYPTION_KEYS).where(ENCRYPTION_KEYS.c.name == name).values(state=state.value)
        )

    def _add_endorsements(self, name: str, endorsements: Sequence[Endorsement]) -> None:
        self._connection.execute(
            insert(ENDORSEMENTS),
            [
                {
                    "key_name": name,
                    "holder": item.holder,
                    "trustee": item.trustee,
                    "signature": item.signature,
                    "certificate": item.certificate,
                }
                for item in endorsements
            ],
        )

    def _record(self, row: Any) -> EncryptionKeyRecord:
        query = (
            select(ENDORSEMENTS)
            .where(ENDORSEMENTS.c.key_name == row.name)
            .order_by(ENDORSEMENTS.c.holder)
        )
        return EncryptionKeyRecord(
            KeyDescription(
                row.name,
                Mode(row.mode),
                Generation(row.generation),
                row.holders,
                row.threshold,
                row.digest,
            ),
            row.parent,
            row.size_bytes,
            tuple(
                Endorsement(item.trustee, item.holder, item.signature, item.certificate)
                for item in self._connection.execute(query)
            ),
            KeyState(row.state),
            row.create_time,
            row.endorse_time,
        )
