"""The gRPC service by which a second security officer decides."""

# ruff: noqa: N802  (method names are those of the protos)

from typing import Any, TypeAlias

import grpc
from finsecure.keyservice.v1 import approvals_pb2, approvals_pb2_grpc
from finsecure_rpc.paging import decode_token, page_of, page_size
from finsecure_rpc.peer import require_peer

from finsecure_keyservice import approvals, convert
from finsecure_keyservice.backend import Backend
from finsecure_keyservice.store import Store

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ApprovalService(approvals_pb2_grpc.ApprovalServiceServicer):
    """Proposals of acts that need two persons."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def GetProposal(
        self, request: approvals_pb2.GetProposalRequest, context: Context
    ) -> approvals_pb2.GetProposalResponse:
        """See the proto."""
        record = await self._backend.read(
            lambda store: approvals.get(store.approvals, convert.proposal_id(request.name))
        )
        return approvals_pb2.GetProposalResponse(
            proposal=convert.proposal(record, self._backend.clock())
        )

    async def ListProposals(
        self, request: approvals_pb2.ListProposalsRequest, context: Context
    ) -> approvals_pb2.ListProposalsResponse:
        """See the proto."""
        size, now = page_size(request.page_size), self._backend.clock()
        scope = f"ListProposals:{request.open_only}"
        (before,) = decode_token(request.page_token, scope, (int,)) or (None,)
        records = await self._backend.read(
            lambda store: store.approvals.page(before, size + 1, now if request.open_only else None)
        )
        page, token = page_of(records, size, scope, lambda record: (record.sequence,))
        return approvals_pb2.ListProposalsResponse(
            proposals=[convert.proposal(record, now) for record in page], next_page_token=token
        )

    async def ApproveProposal(
        self, request: approvals_pb2.ApproveProposalRequest, context: Context
    ) -> approvals_pb2.ApproveProposalResponse:
        """See the proto."""
        caller, now = require_peer().spiffe_id, self._backend.clock()

        def act(store: Store) -> approvals_pb2.ApproveProposalResponse:
            record = approvals.approve(
                store.approvals, convert.proposal_id(request.name), caller, now
            )
            return approvals_pb2.ApproveProposalResponse(proposal=convert.proposal(record, now))

        return await self._backend.mutate(
            request, request.name, approvals_pb2.ApproveProposalResponse, act
        )

    async def RejectProposal(
        self, request: approvals_pb2.RejectProposalRequest, context: Context
    ) -> approvals_pb2.RejectProposalResponse:
        """See the proto."""
        caller, now = require_peer().spiffe_id, self._backend.clock()

        def act(store: Store) -> approvals_pb2.RejectProposalResponse:
            record = approvals.reject(
                store.approvals, convert.proposal_id(request.name), caller, request.reason, now
            )
            return approvals_pb2.RejectProposalResponse(proposal=convert.proposal(record, now))

        return await self._backend.mutate(
            request, request.name, approvals_pb2.RejectProposalResponse, act
        )
