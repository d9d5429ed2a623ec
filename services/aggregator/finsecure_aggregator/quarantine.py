"""Model versions that must not be used: their file or record no longer is what was signed.

The database has them, so that they stay out of use after a restart; a copy in memory answers.
"""

from finsecure_crypto.errors import StateError
from sqlalchemy import Delete, delete, insert, select

from finsecure_aggregator import schema
from finsecure_aggregator.records import ModelRecord
from finsecure_aggregator.store import Transactor


class Quarantine:
    """Who is in it, and why; empty until `load`."""

    def __init__(self, database: Transactor) -> None:
        self._run = database.run
        self._reasons: dict[tuple[str, int], str] = {}

    async def load(self) -> None:
        """Read what the database has."""
        rows = await self._run(lambda c: c.execute(select(schema.quarantine)).all())
        self._reasons = {(row.task, row.version): row.reason for row in rows}

    def reason(self, record: ModelRecord) -> str:
        """Reason code for which a version is in quarantine; empty if it is not."""
        return self._reasons.get((record.task, record.version), "")

    def require_free(self, record: ModelRecord) -> None:
        """Refuse a version that is in quarantine.

        Raises:
            StateError: MODEL_QUARANTINED.
        """
        reason = self.reason(record)
        if reason:
            raise StateError(
                "MODEL_QUARANTINED",
                f"{record.name} is in quarantine ({reason}); the aggregator's operator has to "
                "restore it from a backup and run `finsecure model recheck`",
            )

    async def add(self, record: ModelRecord, reason: str, *, now_ns: int) -> None:
        """Put a version in; it is out of use when this returns, and stays so."""
        place = (record.task, record.version)
        self._reasons[place] = reason  # first: the database may fail
        values = {"task": record.task, "version": record.version, "reason": reason}
        await self._run(
            lambda c: (
                c.execute(_delete(place)),
                c.execute(insert(schema.quarantine).values(**values, time_ns=now_ns)),
            )
        )

    async def release(self, record: ModelRecord) -> None:
        """Let a version out."""
        place = (record.task, record.version)
        await self._run(lambda c: c.execute(_delete(place)))
        self._reasons.pop(place, None)


def _delete(place: tuple[str, int]) -> Delete:
    table = schema.quarantine
    return delete(table).where(table.c.task == place[0], table.c.version == place[1])
