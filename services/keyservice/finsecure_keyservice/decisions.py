"""Transactions that decide something: nothing is done without its event, refusals included.

A decision and its event are written together or not at all. What the logic refuses is rolled back
to where it began, the refusal is recorded in the same transaction, and the caller gets its error
after the commit. Sealing the key service is the one exception; see `seal.service`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from finsecure_crypto.errors import (
    ConfigurationError,
    FinSecureError,
    InternalError,
    UnavailableError,
)
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.idempotency import once
from finsecure_rpc.logs import get_logger
from finsecure_rpc.peer import current_address, current_peer, require_peer
from google.protobuf.message import Message
from sqlalchemy import Connection, Table

from finsecure_keyservice.audit.log import AuditLog
from finsecure_keyservice.audit.refusals import RefusalBudget
from finsecure_keyservice.audit.trail import Caller, Recorder, Trail, Unrecorded
from finsecure_keyservice.clock import Clock

_log = get_logger(__name__)

S = TypeVar("S")
T = TypeVar("T")
Response = TypeVar("Response", bound=Message)

NO_DECISION = (UnavailableError, InternalError, ConfigurationError)
"""Nothing was decided when the service itself fails."""


@dataclass(frozen=True)
class _Refused:
    error: FinSecureError


class Transactions(Protocol):
    """Where transactions run."""

    async def transact(self, act: Callable[[Connection], T]) -> T:
        """Run one; it is committed when this returns."""
        ...


@dataclass(frozen=True)
class Auditor:
    """What it takes to open a trail.

    Attributes:
        log: where events go.
        key: HMAC key of sealed details.
        clock: the time of decisions.
        admit: raises when a log of some size may not grow now.
        healthy: whether all copies of the log can be written.
        budget: how many refusals are recorded.
    """

    log: AuditLog
    key: SecretBytes
    clock: Clock
    admit: Callable[[int], None] = lambda size: None
    healthy: Callable[[], bool] = lambda: True
    budget: RefusalBudget = field(default_factory=RefusalBudget)

    def trail(self, connection: Connection, caller: Caller, request: str = "") -> Trail:
        """The trail of a transaction."""
        return Trail(
            self.log, connection, caller, self.clock(), self.key, request, admit=self.admit
        )


@dataclass(frozen=True)
class Decisions(Generic[S]):
    """Runs what the services of one process do, on one kind of store.

    Attributes:
        books: where transactions run.
        auditor: opens trails.
        requests: table of request ids.
        open_store: makes a store of a transaction and its trail.
    """

    books: Transactions
    auditor: Auditor
    requests: Table
    open_store: Callable[[Connection, Recorder], S]

    async def read(self, act: Callable[[S], T]) -> T:
        """Run a transaction that decides nothing."""
        return await self.books.transact(
            lambda connection: act(self.open_store(connection, Unrecorded()))
        )

    async def decide(self, method: str, subject: str, act: Callable[[S], T]) -> T:
        """Run a decision that has no request id.

        Args:
            method: name of the RPC, for the event of a refusal.
            subject: resource name of what it is about, for the same.
            act: decides, and records at least one event.
        """
        return await self._run(
            method, subject, "", lambda connection, trail: self._act(act, connection, trail)
        )

    async def mutate(
        self,
        request: Message,
        subject: str,
        response_type: type[Response],
        act: Callable[[S], Response],
        stored: Callable[[Response], Response] | None = None,
    ) -> Response:
        """Run a mutation, or return what the same request id was answered before.

        Args:
            request: the request; it has a `request_id`.
            subject: resource name of what is changed.
            response_type: class of the response.
            act: decides, and records at least one event.
            stored: makes the copy of the response that is kept.
        """
        caller = str(require_peer().spiffe_id)
        method = request.DESCRIPTOR.name.removesuffix("Request")

        def work(connection: Connection, trail: Trail) -> Response:
            return once(
                connection,
                self.requests,
                caller,
                request,
                response_type,
                lambda: self._act(act, connection, trail),
                stored=stored,
            )

        request_id = str(getattr(request, "request_id"))  # noqa: B009 # not in Message's type
        response = await self._run(method, subject, request_id, work)
        _log.info("done", method=method, subject=subject, caller=caller)
        return response

    def _act(self, act: Callable[[S], T], connection: Connection, trail: Trail) -> T:
        result = act(self.open_store(connection, trail))
        trail.require_event()
        return result

    async def _run(
        self,
        method: str,
        subject: str,
        request_id: str,
        act: Callable[[Connection, Trail], T],
    ) -> T:
        caller = calling()

        def work(connection: Connection) -> T | _Refused:
            trail = self.auditor.trail(connection, caller, request_id)
            try:
                with connection.begin_nested():
                    return act(connection, trail)
            except NO_DECISION:
                raise
            except FinSecureError as error:
                unrecorded = self.auditor.budget.take(caller.name)
                if unrecorded is not None:
                    trail.refuse(method, subject, error, unrecorded)
                return _Refused(error)

        result = await self.books.transact(work)
        if isinstance(result, _Refused):
            raise result.error
        return result


def calling() -> Caller:
    """Who makes the call that is being served."""
    peer = current_peer()
    if peer is None:
        return Caller("", address=current_address())
    return Caller(str(peer.spiffe_id), f"{peer.serial:x}", current_address())
