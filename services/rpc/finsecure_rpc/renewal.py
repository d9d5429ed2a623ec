"""Renewal at half-life, with fresh keys, for as long as the process lives."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from finsecure.keyservice.v1 import certificates_pb2, certificates_pb2_grpc
from finsecure_crypto.certificates import TrustAnchors
from finsecure_crypto.errors import AuthenticationError, FinSecureError

from finsecure_rpc.authenticator import utc_now
from finsecure_rpc.backoff import Backoff, jittered
from finsecure_rpc.connection import Connection
from finsecure_rpc.enrolment import accept
from finsecure_rpc.identity_store import Identity, IdentityStore
from finsecure_rpc.logs import get_logger
from finsecure_rpc.requests import new_keys

_log = get_logger(__name__)
_LONGEST_SLEEP_S = 5.0  # whoever was suspended, or has a tainted certificate, finds out
_SPREAD_S = 20.0


class Renewer:
    """Renews an identity in the background.

    Channels of a `Connection` and server credentials follow the store by themselves;
    `on_renewed` is for whoever else keeps something of the old identity.

    Args:
        store: the identity folder.
        connection: to the key service, with this identity.
        on_renewed: called with each new identity.
        tainted: gives the key identifiers of authorities that are on their way out; certificates
            of theirs are renewed at once.
        clock: aware UTC time.
    """

    def __init__(
        self,
        store: IdentityStore,
        connection: Connection,
        *,
        on_renewed: Callable[[Identity], None] = lambda _: None,
        tainted: Callable[[], frozenset[bytes]] = frozenset,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._connection = connection
        self._on_renewed = on_renewed
        self._tainted = tainted
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    async def renew_now(self, deadline_s: float = 30.0) -> Identity:
        """Get fresh certificates for fresh keys and make them current.

        Raises:
            FinSecureError: what the key service answered, or that it cannot be reached; the old
                identity stays.
        """
        old = self._store.current()
        keys = new_keys()
        stub = self._connection.stub(certificates_pb2_grpc.EnrolmentServiceStub)
        response = await self._connection.call(
            stub.RenewCertificates,
            certificates_pb2.RenewCertificatesRequest(
                tls_csr=keys.tls_csr, signing_csr=keys.signing_csr
            ),
            deadline_s=deadline_s,
        )
        member = {**old.member, "spiffe_id": str(old.spiffe_id)}
        issued, now = response.certificates, self._clock()
        try:
            # Whoever watches the authorities may know newer ones than this answer does.
            credentials = accept(keys, issued, self._store.current().anchors, member, now)
        except AuthenticationError:
            # Renewal never changes the roots: they stay those that the member was given.
            anchors = TrustAnchors(old.anchors.roots, tuple(issued.trust_bundle.intermediates))
            credentials = accept(keys, issued, anchors, member, now)
        identity = self._store.save(credentials)
        _log.info("identity renewed", not_after=identity.certified.not_after.isoformat())
        self._on_renewed(identity)
        return identity

    def start(self) -> None:
        """Begin to renew in the background."""
        self._task = asyncio.create_task(self._renew_forever())

    async def stop(self) -> None:
        """Stop renewing."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def __aenter__(self) -> "Renewer":
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _renew_forever(self) -> None:
        backoff = Backoff(1.0, 300.0)
        moment = due(self._store.current())
        while True:
            await self._sleep_until(moment)
            try:
                identity = await self.renew_now()
                backoff.reset()
                # Certificates begin in the past; short ones are past half of their life at once.
                left_s = (_end(identity) - self._clock()).total_seconds()
                moment = max(due(identity), self._clock() + timedelta(seconds=jittered(left_s / 2)))
                continue
            except FinSecureError as error:
                left = _end(self._store.current()) - self._clock()
                _log.warning(
                    "identity not renewed", error=str(error), expires_in_s=left.total_seconds()
                )
            except Exception:  # renewal must outlive whatever happens
                _log.exception("identity not renewed")
            await asyncio.sleep(backoff.next_s())

    async def _sleep_until(self, moment: datetime) -> None:
        while (left := (moment - self._clock()).total_seconds()) > 0:
            identity = self._store.current()
            if {identity.certified.issuer, identity.signing.issuer} & self._tainted():
                _log.info("the authority of this identity is on its way out: renewing early")
                # Not all members at once.
                await asyncio.sleep(jittered(min(_SPREAD_S, left / 500), fraction=1.0))
                return
            await asyncio.sleep(min(left, _LONGEST_SLEEP_S))


async def is_tainted(connection: Connection, issuer: bytes) -> bool:
    """Ask the key service whether an authority (its key identifier) is on its way out.

    Raises:
        FinSecureError: what the key service answered, or that it cannot be reached.
    """
    stub = connection.stub(certificates_pb2_grpc.EnrolmentServiceStub)
    answer = await connection.call(stub.GetTrustBundle, certificates_pb2.GetTrustBundleRequest())
    return issuer in answer.trust_bundle.tainted_key_ids


def due(identity: Identity) -> datetime:
    """When to renew: about half-way through the shorter of the two certificates."""
    start = max(identity.certified.not_before, identity.signing.not_before)
    half = (_end(identity) - start).total_seconds() / 2
    return start + timedelta(seconds=jittered(half))


def _end(identity: Identity) -> datetime:
    return min(identity.certified.not_after, identity.signing.not_after)
