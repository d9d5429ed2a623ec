"""The newest revocation list and authorities, for this process and for everybody who watches."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from finsecure_crypto.certificates import RevocationList, TrustAnchors
from finsecure_crypto.errors import AuthenticationError

from finsecure_keyservice.authorities import Believed
from finsecure_keyservice.clock import Clock
from finsecure_keyservice.records import RevocationListRecord


@dataclass(frozen=True)
class News:
    """A list, and who is believed since it was made."""

    list: RevocationListRecord
    believed: Believed


class RevocationFeed:
    """Holds the newest revocation list and wakes up its watchers when there is a newer one.

    Each list comes with the authorities that are believed from then on. It lives on one event loop;
    `current` may be called from anywhere.
    """

    def __init__(self, clock: Clock) -> None:
        self._believed: Believed | None = None
        self._clock = clock
        self._newest: RevocationList | None = None
        self._changed = asyncio.Event()

    def publish(self, news: News | None) -> None:
        """Make a list the newest if it is newer and has not ended, as one of before a long stop."""
        if news is None or news.list.number <= self.number:
            return
        if news.list.next_update < self._clock():
            return
        self._newest = RevocationList.parse(news.list.der, news.believed.anchors, self._clock())
        self._believed = news.believed
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def number(self) -> int:
        """Number of the newest list; 0 if there is none yet."""
        return 0 if self._newest is None else self._newest.number

    def believed(self) -> Believed:
        """Who is believed.

        Raises:
            AuthenticationError: REVOCATION_LIST_STALE if nothing has been published yet.
        """
        if self._believed is None:
            raise _nothing_yet()
        return self._believed

    def anchors(self) -> TrustAnchors:
        """The certificates of who is believed; see `believed`."""
        return self.believed().anchors

    def current(self) -> RevocationList:
        """The newest list.

        Raises:
            AuthenticationError: REVOCATION_LIST_STALE if there is none that may still be relied
                on: then nobody is let in.
        """
        if self._newest is None:
            raise _nothing_yet()
        self._newest.check_fresh(self._clock())
        return self._newest

    async def watch(self) -> AsyncIterator[tuple[bytes, Believed]]:
        """The newest list at once, then every newer one; a slow watcher skips to the newest."""
        while True:
            changed = self._changed
            yield self.current().der, self.believed()
            await changed.wait()


def _nothing_yet() -> AuthenticationError:
    return AuthenticationError(
        "REVOCATION_LIST_STALE", "there is no revocation list yet; try again in a second"
    )
