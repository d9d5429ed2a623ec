"""Transactions on the books of the key service, and the news that follow from them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from finsecure_crypto.errors import ConfigurationError
from finsecure_rpc.database import Database
from finsecure_rpc.database_layout import require_layout
from finsecure_rpc.shielded import Shielded
from sqlalchemy import Connection, insert, select

from finsecure_keyservice.audit.log import AuditLog
from finsecure_keyservice.audit.trail import Recorder, Unrecorded
from finsecure_keyservice.authorities import Authorities
from finsecure_keyservice.feed import News, RevocationFeed
from finsecure_keyservice.revocation import rebuild_list
from finsecure_keyservice.schema import AUDIT, METADATA, SETTINGS, VERSION
from finsecure_keyservice.sql_store import SqlStore

T = TypeVar("T")


class Books:
    """The database together with the feed that announces what is revoked in it."""

    def __init__(self, database: Database, feed: RevocationFeed, authorities: Authorities) -> None:
        self._database = database
        self._authorities = authorities
        self._feed = feed
        self._shielded = Shielded()

    async def transact(self, act: Callable[[Connection], T]) -> T:
        """Run a transaction; the newest revocation list is announced before this returns.

        A caller that hangs up meanwhile does not stop it: what is committed is announced.
        """
        return await self._shielded.run(self._transact(act))

    async def _transact(self, act: Callable[[Connection], T]) -> T:
        def work(connection: Connection) -> tuple[T, News | None]:
            result = act(connection)
            store = SqlStore(connection, Unrecorded())
            newest = store.revocation_list()
            if newest is None or newest.number <= self._feed.number:
                return result, None
            return result, News(newest, self._authorities.believed(store.authorities))

        result, newest = await self._database.run(work)
        self._feed.publish(newest)
        return result

    async def refresh(
        self,
        now: datetime,
        lifetime: timedelta,
        trail: Callable[[Connection], Recorder],
    ) -> None:
        """Make a new revocation list if the present one has used up half of its time.

        One that lasts too long is replaced too: the clock was set back, or the configuration
        shortened.
        """

        def work(connection: Connection) -> None:
            store = SqlStore(connection, trail(connection))
            newest = store.revocation_list()
            if newest is None or not lifetime / 2 <= newest.next_update - now <= lifetime:
                rebuild_list(store, self._authorities.active(store.authorities), now, lifetime)

        await self.transact(work)


def open_books(connection: Connection, domain: str) -> None:
    """Note on empty books whose they are, and begin their audit log.

    Raises:
        ConfigurationError: ALREADY_INITIALISED if they are somebody's.
    """
    METADATA.create_all(connection)
    if connection.execute(select(SETTINGS)).first() is not None:
        raise ConfigurationError(
            "ALREADY_INITIALISED", "the database belongs to a key service; name another database"
        )
    settings = {"layout": VERSION, "domain": domain}
    rows = [{"name": name, "value": value} for name, value in settings.items()]
    connection.execute(insert(SETTINGS), rows)
    AuditLog(AUDIT).create(connection)


def check_books(connection: Connection, domain: str) -> None:
    """Refuse books of another domain or of another layout.

    Raises:
        ConfigurationError: NOT_INITIALISED, DATABASE_LAYOUT or DOMAIN_MISMATCH.
    """
    METADATA.create_all(connection, tables=[SETTINGS])
    settings = {row.name: row.value for row in connection.execute(select(SETTINGS))}
    if not settings:
        raise ConfigurationError(
            "NOT_INITIALISED", "the database is empty; run `finsecure-keyservice init` first"
        )
    require_layout(settings.get("layout"), VERSION)
    if settings.get("domain") != domain:
        raise ConfigurationError(
            "DOMAIN_MISMATCH",
            f"the database belongs to the domain {settings.get('domain')}; correct `domain` in "
            "the configuration",
        )
