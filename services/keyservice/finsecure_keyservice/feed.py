"""The newest revocation list, for this process and for everybody who watches."""

import asyncio
from collections.abc import AsyncIterator

from finsecure_crypto.certificates import RevocationList, TrustAnchors
from finsecure_crypto.errors import AuthenticationError

from finsecure_keyservice.clock import Clock
from finsecure_keyservice.records import RevocationListRecord


class RevocationFeed:
    """Holds the newest revocation list and wakes up its watchers when there is a newer one.

    It lives on one event loop; `current` may be called from anywhere.
    """

    def __init__(self, anchors: TrustAnchors, clock: Clock) -> None:
        self._anchors = anchors
        self._clock = clock
        self._newest: RevocationList | None = None
        self._changed = asyncio.Event()

    def publish(self, record: RevocationListRecord | None) -> None:
        """Make a list the newest, unless it is not newer."""
        if record is None or (self._newest is not None and record.number <= self._newest.number):
            return
        self._newest = RevocationList.parse(record.der, self._anchors, self._clock())
        self._changed.set()
        self._changed = asyncio.Event()

    def current(self) -> RevocationList:
        """The newest list.

        Raises:
            AuthenticationError: REVOCATION_LIST_STALE if there is none that may still be relied
                on: then nobody is let in.
        """
        if self._newest is None:
            raise AuthenticationError(
                "REVOCATION_LIST_STALE", "there is no revocation list yet; try again in a second"
            )
        self._newest.check_fresh(self._clock())
        return self._newest

    async def watch(self) -> AsyncIterator[bytes]:
        """The newest list at once, then every newer one; a slow watcher skips to the newest."""
        while True:
            changed = self._changed
            yield self.current().der
            await changed.wait()
