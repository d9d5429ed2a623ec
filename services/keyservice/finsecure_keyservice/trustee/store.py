"""The trustee's database: each function runs inside a transaction that its caller holds."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.homomorphic.key_record import Generation, KeyDescription
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_rpc.database_layout import require_layout
from sqlalchemy import Connection, Row, func, insert, select, update

from finsecure_keyservice.trustee.records import HeldKey, Opening
from finsecure_keyservice.trustee.schema import (
    CONTRIBUTIONS,
    KEYS,
    LOG_SECRETS,
    METADATA,
    OPENINGS,
    SEALING_KEYS,
    SETTINGS,
    VERSION,
)

_MOST_PARAMETERS = 500


_LOG_SECRET = 1


def prepare(connection: Connection, federation: str, trustee: str) -> bool:
    """Make the tables, or make sure that they are this trustee's.

    Returns:
        Whether they were made.

    Raises:
        ConfigurationError: DATABASE_LAYOUT or DATABASE_FOREIGN.
    """
    METADATA.create_all(connection)
    expected = {"layout": VERSION, "federation": federation, "trustee": trustee}
    found = {row.name: row.value for row in connection.execute(select(SETTINGS))}
    if not found:
        rows = [{"name": name, "value": value} for name, value in expected.items()]
        connection.execute(insert(SETTINGS), rows)
        return True
    require_layout(found.get("layout"), VERSION)
    if found != expected:
        raise ConfigurationError(
            "DATABASE_FOREIGN",
            f"the database belongs to the trustee {found.get('trustee')} of "
            f"{found.get('federation')}; correct `database` in the configuration",
        )
    return False


def log_secret(connection: Connection) -> bytes:
    """The wrapped secret of the log."""
    wrapped: bytes = connection.execute(select(LOG_SECRETS.c.wrapped_secret)).scalar_one()
    return wrapped


def add_log_secret(connection: Connection, wrapped: bytes) -> None:
    """Keep the secret of the log."""
    connection.execute(insert(LOG_SECRETS).values(id=_LOG_SECRET, wrapped_secret=wrapped))


def set_log_secret(connection: Connection, wrapped: bytes) -> None:
    """Keep the secret of the log, wrapped anew."""
    connection.execute(update(LOG_SECRETS).values(wrapped_secret=wrapped))


def sealing_key(connection: Connection) -> tuple[bytes, bytes] | None:
    """Public key and wrapped seed of the key that ceremonies seal to."""
    row = connection.execute(select(SEALING_KEYS)).one_or_none()
    return None if row is None else (row.public, row.wrapped_seed)


def add_sealing_key(connection: Connection, public: bytes, wrapped_seed: bytes) -> None:
    """Keep the key that ceremonies seal to."""
    connection.execute(insert(SEALING_KEYS).values(public=public, wrapped_seed=wrapped_seed))


def set_sealing_seed(connection: Connection, wrapped_seed: bytes) -> None:
    """Keep the seed of the sealing key, wrapped anew."""
    connection.execute(update(SEALING_KEYS).values(wrapped_seed=wrapped_seed))


def wrapped_shares(connection: Connection) -> dict[str, bytes]:
    """All shares that are not erased, wrapped, by the resource names of their keys."""
    return {held.description.name: held.wrapped_share for held in kept(connection)}


def set_share(connection: Connection, name: str, wrapped_share: bytes) -> None:
    """Keep a share, wrapped anew."""
    connection.execute(update(KEYS).where(KEYS.c.name == name).values(wrapped_share=wrapped_share))


def key(connection: Connection, name: str) -> HeldKey | None:
    """Read a key by its resource name."""
    row = connection.execute(select(KEYS).where(KEYS.c.name == name)).one_or_none()
    return None if row is None else _held(row)


def kept(connection: Connection) -> list[HeldKey]:
    """All keys of which the share is not erased."""
    found = select(KEYS).where(KEYS.c.wrapped_share != b"").order_by(KEYS.c.name)
    return [_held(row) for row in connection.execute(found)]


def set_destroyed(connection: Connection, name: str, time: datetime | None) -> None:
    """Note since when a key counts as destroyed, or that it does not."""
    connection.execute(update(KEYS).where(KEYS.c.name == name).values(destroyed_time=time))


def erase(connection: Connection, name: str) -> int:
    """Forget the share of a key and the partials that were given with it; returns how many.

    That, and of what, they were given stays.
    """
    connection.execute(update(KEYS).where(KEYS.c.name == name).values(wrapped_share=b""))
    given = update(OPENINGS).where(OPENINGS.c.key_name == name, OPENINGS.c.partial != b"")
    return connection.execute(given.values(partial=b"")).rowcount


def _held(row: Row[Any]) -> HeldKey:
    return HeldKey(
        KeyDescription(
            row.name,
            Mode(row.mode),
            Generation(row.generation),
            row.holders,
            row.threshold,
            row.digest,
        ),
        row.holder,
        row.public_key,
        row.wrapped_share,
        row.origin,
        row.destroyed_time,
    )


def add_key(connection: Connection, held: HeldKey, time: datetime) -> None:
    """Keep a share; its name must be free."""
    description = held.description
    connection.execute(
        insert(KEYS).values(
            name=description.name,
            mode=description.mode.value,
            generation=description.generation.value,
            holders=description.holders,
            threshold=description.threshold,
            digest=description.digest,
            holder=held.holder,
            public_key=held.public_key,
            wrapped_share=held.wrapped_share,
            origin=held.origin,
            create_time=time,
        )
    )


def opening(connection: Connection, request_digest: bytes) -> Opening | None:
    """Read what a request was answered."""
    found = select(OPENINGS).where(OPENINGS.c.request_digest == request_digest)
    row = connection.execute(found).one_or_none()
    if row is None:
        return None
    return Opening(row.request_digest, row.subject, row.key_name, row.partial, row.sha256)


def opened_by(connection: Connection, subject: str) -> bytes | None:
    """Digest of the request that opened a subject, if one has."""
    found = select(OPENINGS.c.request_digest).where(OPENINGS.c.subject == subject)
    digest: bytes | None = connection.execute(found).scalar_one_or_none()
    return digest


def openings_of(connection: Connection, key_name: str) -> int:
    """How many sums have been opened with a key."""
    counted = select(func.count()).select_from(OPENINGS).where(OPENINGS.c.key_name == key_name)
    return connection.execute(counted).scalar_one()


def used(connection: Connection, digests: Sequence[bytes]) -> str | None:
    """Client of a contribution among these that went into an opened total, if one did."""
    for start in range(0, len(digests), _MOST_PARAMETERS):
        some = digests[start : start + _MOST_PARAMETERS]
        found = select(CONTRIBUTIONS.c.client).where(CONTRIBUTIONS.c.sha256.in_(some))
        first = found.order_by(CONTRIBUTIONS.c.client).limit(1)
        client: str | None = connection.execute(first).scalar_one_or_none()
        if client is not None:
            return client
    return None


def add_opening(
    connection: Connection,
    granted: Opening,
    contributions: Iterable[tuple[str, bytes]],
    time: datetime,
) -> None:
    """Keep a granted request with its partial and the (client, SHA-256) of what went into it."""
    connection.execute(
        insert(OPENINGS).values(
            request_digest=granted.request_digest,
            subject=granted.subject,
            key_name=granted.key_name,
            partial=granted.partial,
            sha256=granted.sha256,
            create_time=time,
        )
    )
    connection.execute(
        insert(CONTRIBUTIONS),
        [
            {"client": client, "sha256": sha256, "request_digest": granted.request_digest}
            for client, sha256 in contributions
        ],
    )
