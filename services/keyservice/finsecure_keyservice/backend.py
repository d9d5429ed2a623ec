"""What the services work with: the books, the rules, the clock, and request ids around them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from finsecure_rpc.idempotency import once
from finsecure_rpc.logs import get_logger
from finsecure_rpc.peer import require_peer
from google.protobuf.message import Message
from sqlalchemy import Connection

from finsecure_keyservice.books import Books
from finsecure_keyservice.clock import Clock
from finsecure_keyservice.enrolment import Enrolment
from finsecure_keyservice.feed import RevocationFeed
from finsecure_keyservice.members import ApiKeyIssuer
from finsecure_keyservice.revocation import rebuild_list
from finsecure_keyservice.schema import REQUESTS
from finsecure_keyservice.sql_store import SqlStore
from finsecure_keyservice.store import Store

_log = get_logger(__name__)

Response = TypeVar("Response", bound=Message)
T = TypeVar("T")


@dataclass(frozen=True)
class Backend:
    """Shared by all services of one process."""

    books: Books
    feed: RevocationFeed
    enrolment: Enrolment
    api_keys: ApiKeyIssuer
    revocation_list_lifetime: timedelta
    clock: Clock

    async def transact(self, act: Callable[[Store], T]) -> T:
        """Run a transaction that has no request id."""
        return await self.books.transact(lambda connection: act(SqlStore(connection)))

    async def mutate(
        self,
        request: Message,
        subject: str,
        response_type: type[Response],
        act: Callable[[Store], Response],
        stored: Callable[[Response], Response] | None = None,
    ) -> Response:
        """Run a mutation, or return what the same request id was answered before.

        `subject` names what is changed, for the log.
        """
        caller = str(require_peer().spiffe_id)

        def work(connection: Connection) -> Response:
            return once(
                connection,
                REQUESTS,
                caller,
                request,
                response_type,
                lambda: act(SqlStore(connection)),
                stored=stored,
            )

        response = await self.books.transact(work)
        _log.info("done", request=request.DESCRIPTOR.name, subject=subject, caller=caller)
        return response

    def rebuild_list(self, store: Store) -> None:
        """Sign a new revocation list within the transaction that revoked."""
        rebuild_list(store, self.enrolment.authority, self.clock(), self.revocation_list_lifetime)
