"""What the services work with: the books, the rules, the clock, and decisions around them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from google.protobuf.message import Message

from finsecure_keyservice import approvals
from finsecure_keyservice.approval_gate import ApprovalGate
from finsecure_keyservice.approvals import DangerousAct
from finsecure_keyservice.books import Books
from finsecure_keyservice.clock import Clock
from finsecure_keyservice.decisions import Auditor, Decisions
from finsecure_keyservice.enrolment import Enrolment
from finsecure_keyservice.feed import RevocationFeed
from finsecure_keyservice.join_tokens import JoinTokenIssuer
from finsecure_keyservice.members import ApiKeyIssuer
from finsecure_keyservice.names import MemberName
from finsecure_keyservice.revocation import rebuild_list
from finsecure_keyservice.rotation import Rotation
from finsecure_keyservice.schema import REQUESTS
from finsecure_keyservice.sql_store import SqlStore
from finsecure_keyservice.store import Store

Response = TypeVar("Response", bound=Message)
T = TypeVar("T")


@dataclass(frozen=True)
class Backend:
    """Shared by all services of one process."""

    books: Books
    feed: RevocationFeed
    enrolment: Enrolment
    api_keys: ApiKeyIssuer
    join_tokens: JoinTokenIssuer
    revocation_list_lifetime: timedelta
    gate: ApprovalGate
    rotation: Rotation
    auditor: Auditor

    @property
    def clock(self) -> Clock:
        """The time."""
        return self.auditor.clock

    async def read(self, act: Callable[[Store], T]) -> T:
        """Run a transaction that decides nothing; see `Decisions.read`."""
        return await self._decisions.read(act)

    async def decide(self, method: str, subject: str, act: Callable[[Store], T]) -> T:
        """Run a decision that has no request id; see `Decisions.decide`."""
        return await self._decisions.decide(method, subject, act)

    async def mutate(
        self,
        request: Message,
        subject: str,
        response_type: type[Response],
        act: Callable[[Store], Response],
        stored: Callable[[Response], Response] | None = None,
        dangerous: DangerousAct | None = None,
    ) -> Response:
        """Run a mutation once for each request id; see `Decisions.mutate`.

        A `dangerous` one is done only if two security officers want it; see `ApprovalGate`.
        """
        if dangerous is not None:
            return await self.gate.mutate(
                self._decisions, request, subject, response_type, act, dangerous, stored
            )
        return await self._decisions.mutate(request, subject, response_type, act, stored)

    @property
    def _decisions(self) -> Decisions[Store]:
        return Decisions(self.books, self.auditor, REQUESTS, SqlStore)

    def withdraw_approvals(self, store: Store, member: str) -> None:
        """End what a member has proposed or approved, in the transaction that puts it out.

        Raises:
            InvalidArgumentError: NAME_MALFORMED.
        """
        officer = MemberName.parse(member).spiffe_id(self.enrolment.domain)
        approvals.withdraw_all(store.approvals, officer, self.clock())

    def rebuild_list(self, store: Store) -> None:
        """Sign a new revocation list within the transaction that revoked."""
        authority = self.enrolment.authorities.active(store.authorities)
        rebuild_list(store, authority, self.clock(), self.revocation_list_lifetime)
