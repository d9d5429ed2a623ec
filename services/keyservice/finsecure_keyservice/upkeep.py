"""What the key service does by itself: fresh revocation lists, fresh certificates of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from finsecure_crypto.errors import AuthenticationError, ConfigurationError, UnavailableError
from finsecure_rpc.logs import get_logger
from sqlalchemy import Connection

from finsecure_keyservice.audit.trail import Caller, Trail
from finsecure_keyservice.books import Books
from finsecure_keyservice.decisions import Auditor
from finsecure_keyservice.feed import RevocationFeed
from finsecure_keyservice.own_identity import OwnIdentity
from finsecure_keyservice.protection.kek import KeyEncryptionKey
from finsecure_keyservice.sql_store import SqlStore

_log = get_logger(__name__)
_AUTHORITY_WARNING = timedelta(days=60)


class Upkeep:
    """Looks again and again what is due.

    It goes by the wall clock, so that a machine that was suspended catches up.
    """

    def __init__(
        self,
        books: Books,
        feed: RevocationFeed,
        own: OwnIdentity,
        kek: KeyEncryptionKey,
        revocation_list_lifetime: timedelta,
        auditor: Auditor,
    ) -> None:
        self._books = books
        self._feed = feed
        self._own = own
        self._kek = kek
        self._lifetime = revocation_list_lifetime
        self._auditor = auditor
        self._self = Caller(str(own.spiffe_id))
        self._decides = True

    async def tick(self) -> None:
        """Do what is due now; first of all, see that the audit log can be written."""
        now = self._auditor.clock()
        self._decides = False
        await self._books.transact(self._auditor.log.touch)
        self._decides = True
        await self._books.refresh(now, self._lifetime, self._trail)
        believed = self._feed.believed()
        if not self._own.due(now, self._feed.current().serials, believed):
            return
        credentials = await self._books.transact(
            lambda connection: self._own.prepare(
                SqlStore(connection, self._trail(connection)), now, believed.anchors
            )
        )
        identity = await asyncio.to_thread(self._own.install, credentials)
        _log.info("own certificates renewed", not_after=identity.certified.not_after.isoformat())
        if believed.end - now < _AUTHORITY_WARNING:
            end = believed.end.isoformat()
            _log.warning("the intermediate certificate ends soon; rotate it", not_after=end)

    async def run(self, interval_s: float, report: Callable[[bool], Awaitable[None]]) -> None:
        """Do what is due until cancelled, and report whether anything can be decided.

        A failure is logged and tried again: the last list and certificates go on serving until
        they end.
        """
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.tick()
            except Exception:
                _log.exception("upkeep failed; it is tried again")
            await report(await self._ready())

    def _trail(self, connection: Connection) -> Trail:
        return self._auditor.trail(connection, self._self)

    async def _ready(self) -> bool:
        try:
            self._feed.current()
            await asyncio.to_thread(self._kek.check)
        except AuthenticationError:
            return False
        except (ConfigurationError, UnavailableError) as error:
            _log.error("the keys cannot be used", reason=error.code)
            return False
        return self._decides and self._auditor.healthy()
