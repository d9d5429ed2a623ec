"""The gate before acts that need two persons: a call passes it only with an approval."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar

from finsecure_crypto.randomness import draw
from finsecure_rpc.peer import require_peer
from google.protobuf.message import Message

from finsecure_keyservice import approvals
from finsecure_keyservice.approval_store import ApprovalStore
from finsecure_keyservice.approvals import ApprovalMissingError, DangerousAct
from finsecure_keyservice.clock import Clock
from finsecure_keyservice.decisions import Decisions


class HasApprovals(Protocol):
    """A store beside which proposals are kept."""

    @property
    def approvals(self) -> ApprovalStore:
        """Proposals within the same transaction."""


S = TypeVar("S", bound=HasApprovals)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True)
class ApprovalGate:
    """Lets a call through once two security officers want what it does.

    Attributes:
        lifetime: how long a proposal can be approved and done.
        clock: the time.
    """

    lifetime: timedelta
    clock: Clock

    async def mutate(
        self,
        decisions: Decisions[S],
        request: Message,
        subject: str,
        response_type: type[Response],
        act: Callable[[S], Response],
        dangerous: DangerousAct,
        stored: Callable[[Response], Response] | None = None,
    ) -> Response:
        """Do what `Decisions.mutate` does if it is approved, else propose it.

        Raises:
            StateError: APPROVAL_REQUIRED; the proposal is on record then.
            PermissionDeniedError: ROLE_NOT_ALLOWED for who is no security officer.
            ResourceExhaustedError: TOO_MANY_PROPOSALS.
        """
        caller = require_peer().spiffe_id

        def approved_act(store: S) -> Response:
            approvals.execute(store.approvals, dangerous, request, caller, self.clock())
            return act(store)

        try:
            return await decisions.mutate(request, subject, response_type, approved_act, stored)
        except ApprovalMissingError:
            # That transaction is rolled back; the proposal is made in one of its own.
            proposal = await decisions.decide(
                request.DESCRIPTOR.name.removesuffix("Request"),
                subject,
                lambda store: approvals.propose(
                    store.approvals,
                    dangerous,
                    request,
                    caller,
                    self.clock(),
                    self.lifetime,
                    draw(os.urandom, 8).hex(),
                ),
            )
        raise approvals.required(proposal)
