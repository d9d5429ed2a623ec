"""The newest revocation list and authorities, streamed from the key service.

The list is kept across restarts, and the authorities go into the identity folder. Both come in one
message, so whoever has a list that was made after a change of authorities knows of the change.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from finsecure.keyservice.v1 import certificates_pb2, certificates_pb2_grpc
from finsecure_crypto.certificates import RevocationList, TrustAnchors
from finsecure_crypto.errors import AuthenticationError, FinSecureError, UnavailableError

from finsecure_rpc.authenticator import utc_now
from finsecure_rpc.backoff import Backoff
from finsecure_rpc.connection import Connection
from finsecure_rpc.durable import write_file
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.logs import get_logger

_log = get_logger(__name__)
WATCH_DEADLINE_S = 900.0
"""The stream is opened anew after this time, so that a dead one is noticed."""


class RevocationWatcher:
    """Follows the revocation list; when it goes stale, everybody is refused (fail closed).

    Args:
        connection: to the key service.
        anchors: gives the authorities that are believed now.
        identities: identity folder that takes on the authorities that come with a list; None leaves
            it alone.
        cache: file that keeps the list, so that a restart while the key service is down does
            not lock everybody out before the list is stale.
        clock: aware UTC time.
    """

    def __init__(
        self,
        connection: Connection,
        anchors: Callable[[], TrustAnchors],
        *,
        identities: IdentityStore | None = None,
        cache: Path | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._connection = connection
        self._anchors = anchors
        self._identities = identities
        self._tainted: frozenset[bytes] = frozenset()
        self._cache = cache
        self._clock = clock
        self._list: RevocationList | None = None
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def current(self) -> RevocationList:
        """Return the newest list.

        Raises:
            AuthenticationError: REVOCATION_LIST_STALE when there is none, or only an old one.
        """
        if self._list is None:
            raise AuthenticationError(
                "REVOCATION_LIST_STALE",
                "No revocation list has been received yet: see that the key service runs at "
                f"{self._connection.address}.",
            )
        self._list.check_fresh(self._clock())
        return self._list

    def tainted(self) -> frozenset[bytes]:
        """Key identifiers of authorities that are on their way out, as last heard."""
        return self._tainted

    async def start(self, deadline_s: float = 30.0) -> None:
        """Begin to follow the list and wait for the first one.

        Raises:
            UnavailableError: SERVICE_UNREACHABLE when none came in time; it goes on trying.
        """
        if self._cache is not None and self._cache.exists():
            try:
                self._take(self._cache.read_bytes())
            except (OSError, FinSecureError) as error:
                _log.warning("cached revocation list not used", error=str(error))
        self._task = asyncio.create_task(self._follow())
        try:
            await asyncio.wait_for(self._arrived.wait(), deadline_s)
        except TimeoutError as error:
            raise UnavailableError(
                "SERVICE_UNREACHABLE",
                f"No revocation list came from {self._connection.address} within {deadline_s:g} "
                "seconds: see that the key service runs there.",
            ) from error

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _follow(self) -> None:
        backoff = Backoff(0.2, 10.0)
        while True:
            try:
                stub = self._connection.stub(certificates_pb2_grpc.CertificateServiceStub)
                async for response in self._connection.stream(
                    stub.WatchRevocationList,
                    certificates_pb2.WatchRevocationListRequest(),
                    deadline_s=WATCH_DEADLINE_S,
                    wait_for_ready=True,
                ):
                    self._adopt(response.trust_bundle)
                    self._take(response.crl)
                    backoff.reset()
            except FinSecureError as error:
                if error.code != "DEADLINE_EXCEEDED":
                    _log.warning("revocation list not followed", error=str(error))
            except Exception:  # the watch must outlive whatever happens
                _log.exception("revocation list not followed")
            await asyncio.sleep(backoff.next_s())

    def _adopt(self, bundle: certificates_pb2.TrustBundle) -> None:
        """Take on the authorities, so that what the newest of them signs is believed."""
        if self._identities is None or not bundle.intermediates:
            return
        self._identities.adopt(tuple(bundle.intermediates))
        self._tainted = frozenset(bundle.tainted_key_ids)

    def _take(self, der: bytes) -> None:
        """Believe a list if it is verified and not older than the present one."""
        fresh = RevocationList.parse(der, self._anchors(), self._clock())
        if self._list is not None and fresh.number < self._list.number:
            raise AuthenticationError(
                "REVOCATION_LIST_ROLLED_BACK",
                f"Revocation list {fresh.number} came after {self._list.number}: the key service "
                "may have been restored from an old copy; ask its operator.",
            )
        changed = self._list is None or fresh.number > self._list.number
        self._list = fresh
        self._arrived.set()
        if changed and self._cache is not None:
            try:
                write_file(self._cache, der, mode=0o644)
            except OSError as error:
                _log.warning("revocation list not cached", error=str(error))
