"""Managed keys in the key service's database: one instance per transaction, typed records."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, update

from finsecure_keyservice.approval_store import ApprovalStore
from finsecure_keyservice.audit.trail import Recorder
from finsecure_keyservice.keys.records import (
    CryptoKey,
    ImportJob,
    KeyAlgorithm,
    KeyPurpose,
    KeyRing,
    KeyVersion,
)
from finsecure_keyservice.keys.states import VersionState
from finsecure_keyservice.schema import (
    CRYPTO_KEY_VERSIONS,
    CRYPTO_KEYS,
    FEDERATIONS,
    IMPORT_JOBS,
    KEY_RINGS,
    SIGNED_MODELS,
)


class KeyStore:
    """Managed keys within one transaction, and its audit trail."""

    def __init__(self, connection: Connection, trail: Recorder) -> None:
        self._connection = connection
        self.trail = trail
        self.approvals = ApprovalStore(connection, trail)

    def has_federation(self, name: str) -> bool:
        """Whether a federation exists."""
        query = select(FEDERATIONS.c.name).where(FEDERATIONS.c.name == name)
        return self._connection.execute(query).first() is not None

    def add_ring(self, ring: KeyRing) -> None:
        """Add a ring whose name is free."""
        self._connection.execute(insert(KEY_RINGS).values(asdict(ring)))

    def ring(self, name: str) -> KeyRing | None:
        """Read one ring."""
        row = self._row(KEY_RINGS, name)
        return None if row is None else KeyRing(**row)

    def rings(self, parent: str, behind: str, limit: int) -> Sequence[KeyRing]:
        """At most `limit` rings of a federation in the order of their names."""
        return [KeyRing(**row) for row in self._page(KEY_RINGS, parent, behind, limit)]

    def add_key(self, key: CryptoKey) -> None:
        """Add a key whose name is free and whose ring exists."""
        self._connection.execute(insert(CRYPTO_KEYS).values(_key_values(key)))

    def key(self, name: str) -> CryptoKey | None:
        """Read one key."""
        row = self._row(CRYPTO_KEYS, name)
        return None if row is None else _key(row)

    def keys(self, parent: str, behind: str, limit: int) -> Sequence[CryptoKey]:
        """At most `limit` keys of a ring in the order of their names."""
        return [_key(row) for row in self._page(CRYPTO_KEYS, parent, behind, limit)]

    def update_key(self, key: CryptoKey) -> None:
        """Write a key that has changed."""
        self._connection.execute(
            update(CRYPTO_KEYS).where(CRYPTO_KEYS.c.name == key.name).values(_key_values(key))
        )

    def keys_to_rotate(self, now: datetime) -> Sequence[CryptoKey]:
        """Keys whose rotation is due."""
        query = select(CRYPTO_KEYS).where(CRYPTO_KEYS.c.next_rotation_time <= now)
        return [_key(row) for row in self._connection.execute(query).mappings()]

    def add_version(self, version: KeyVersion) -> None:
        """Add a version whose number is free and whose key exists."""
        self._connection.execute(insert(CRYPTO_KEY_VERSIONS).values(_version_values(version)))

    def version(self, key: str, number: int) -> KeyVersion | None:
        """Read one version."""
        query = select(CRYPTO_KEY_VERSIONS).where(
            CRYPTO_KEY_VERSIONS.c.key == key, CRYPTO_KEY_VERSIONS.c.number == number
        )
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _version(row)

    def versions(self, key: str, behind: int, limit: int) -> Sequence[KeyVersion]:
        """At most `limit` versions of a key in the order of their numbers."""
        query = (
            select(CRYPTO_KEY_VERSIONS)
            .where(CRYPTO_KEY_VERSIONS.c.key == key, CRYPTO_KEY_VERSIONS.c.number > behind)
            .order_by(CRYPTO_KEY_VERSIONS.c.number)
            .limit(limit)
        )
        return [_version(row) for row in self._connection.execute(query).mappings()]

    def newest_number(self, key: str) -> int:
        """Number of the newest version of a key; 0 if it has none."""
        query = select(func.max(CRYPTO_KEY_VERSIONS.c.number)).where(
            CRYPTO_KEY_VERSIONS.c.key == key
        )
        return self._connection.execute(query).scalar_one() or 0

    def versions_in(self, state: VersionState) -> Sequence[KeyVersion]:
        """All versions in a state, oldest first."""
        query = (
            select(CRYPTO_KEY_VERSIONS)
            .where(CRYPTO_KEY_VERSIONS.c.state == state.value)
            .order_by(CRYPTO_KEY_VERSIONS.c.create_time, CRYPTO_KEY_VERSIONS.c.number)
        )
        return [_version(row) for row in self._connection.execute(query).mappings()]

    def update_version(self, version: KeyVersion) -> None:
        """Write a version that has changed."""
        self._connection.execute(
            update(CRYPTO_KEY_VERSIONS)
            .where(
                CRYPTO_KEY_VERSIONS.c.key == version.key,
                CRYPTO_KEY_VERSIONS.c.number == version.number,
            )
            .values(_version_values(version))
        )

    def versions_with_keys(self) -> Sequence[KeyVersion]:
        """All versions of all keys that have a handle."""
        query = select(CRYPTO_KEY_VERSIONS).where(CRYPTO_KEY_VERSIONS.c.handle.is_not(None))
        return [_version(row) for row in self._connection.execute(query).mappings()]

    def destroyed_with_keys(self) -> Sequence[KeyVersion]:
        """Those of them that are destroyed: what their handles name is to be erased."""
        query = select(CRYPTO_KEY_VERSIONS).where(
            CRYPTO_KEY_VERSIONS.c.state == VersionState.DESTROYED.value,
            CRYPTO_KEY_VERSIONS.c.handle.is_not(None),
        )
        return [_version(row) for row in self._connection.execute(query).mappings()]

    def jobs(self) -> Sequence[ImportJob]:
        """All import jobs."""
        query = select(IMPORT_JOBS)
        return [ImportJob(**row) for row in self._connection.execute(query).mappings()]

    def update_job(self, job: ImportJob) -> None:
        """Write an import job that has changed."""
        self._connection.execute(
            update(IMPORT_JOBS).where(IMPORT_JOBS.c.name == job.name).values(asdict(job))
        )

    def add_job(self, job: ImportJob) -> None:
        """Add an import job whose name is free and whose ring exists."""
        self._connection.execute(insert(IMPORT_JOBS).values(asdict(job)))

    def job(self, name: str) -> ImportJob | None:
        """Read one import job."""
        row = self._row(IMPORT_JOBS, name)
        return None if row is None else ImportJob(**row)

    def signed_model(self, name: str) -> bytes | None:
        """Digest of the statement that was signed about a model."""
        query = select(SIGNED_MODELS.c.digest).where(SIGNED_MODELS.c.name == name)
        digest: bytes | None = self._connection.execute(query).scalar_one_or_none()
        return digest

    def add_signed_model(self, name: str, digest: bytes, now: datetime) -> None:
        """Note the statement that is signed about a model."""
        self._connection.execute(
            insert(SIGNED_MODELS).values(name=name, digest=digest, create_time=now)
        )

    def _row(self, table: Table, name: str) -> Mapping[Any, Any] | None:
        query = select(table).where(table.c.name == name)
        return self._connection.execute(query).mappings().first()

    def _page(
        self, table: Table, parent: str, behind: str, limit: int
    ) -> Sequence[Mapping[Any, Any]]:
        query = (
            select(table)
            .where(table.c.parent == parent, table.c.name > behind)
            .order_by(table.c.name)
            .limit(limit)
        )
        return self._connection.execute(query).mappings().all()


# Rows come as `Mapping[Any, Any]`: SQLAlchemy Core does not type columns.
def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else round(duration.total_seconds())


def _key_values(key: CryptoKey) -> dict[str, Any]:
    values = asdict(key)
    period, delay = values.pop("rotation_period"), values.pop("destroy_delay")
    return {
        **values,
        "purpose": key.purpose.value,
        "algorithm": key.algorithm.value,
        "rotation_period_s": _seconds(period),
        "destroy_delay_s": _seconds(delay),
    }


def _key(row: Mapping[Any, Any]) -> CryptoKey:
    values = dict(row)
    period, delay = values.pop("rotation_period_s"), values.pop("destroy_delay_s")
    return CryptoKey(
        **{
            **values,
            "purpose": KeyPurpose(row["purpose"]),
            "algorithm": KeyAlgorithm(row["algorithm"]),
            "rotation_period": None if period is None else timedelta(seconds=period),
            "destroy_delay": timedelta(seconds=delay),
        }
    )


def _version_values(version: KeyVersion) -> dict[str, Any]:
    return {**asdict(version), "state": version.state.value}


def _version(row: Mapping[Any, Any]) -> KeyVersion:
    return KeyVersion(**{**row, "state": VersionState(row["state"])})
