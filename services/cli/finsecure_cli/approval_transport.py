"""A security officer's calls about proposals; answers come back as documents."""

import uuid

from finsecure.keyservice.v1 import approvals_pb2, approvals_pb2_grpc

from finsecure_cli.convert import Document, document
from finsecure_cli.transport import PAGE, Services


async def list_proposals(services: Services, *, open_only: bool) -> list[Document]:
    """List proposals, newest first."""
    return await services.pages(
        lambda token: services.keys(
            approvals_pb2_grpc.ApprovalServiceStub,
            "ListProposals",
            approvals_pb2.ListProposalsRequest(
                open_only=open_only, page_size=PAGE, page_token=token
            ),
        ),
        "proposals",
    )


async def get_proposal(services: Services, proposal: str) -> Document:
    """Read a proposal, by its id."""
    request = approvals_pb2.GetProposalRequest(name=_name(proposal))
    answer = await services.keys(approvals_pb2_grpc.ApprovalServiceStub, "GetProposal", request)
    return document(answer.proposal)


async def approve_proposal(services: Services, proposal: str) -> Document:
    """Agree to a proposal."""
    request = approvals_pb2.ApproveProposalRequest(
        name=_name(proposal), request_id=str(uuid.uuid4())
    )
    answer = await services.keys(approvals_pb2_grpc.ApprovalServiceStub, "ApproveProposal", request)
    return document(answer.proposal)


async def reject_proposal(services: Services, proposal: str, reason: str) -> Document:
    """End a proposal."""
    request = approvals_pb2.RejectProposalRequest(
        name=_name(proposal), reason=reason, request_id=str(uuid.uuid4())
    )
    answer = await services.keys(approvals_pb2_grpc.ApprovalServiceStub, "RejectProposal", request)
    return document(answer.proposal)


def _name(proposal: str) -> str:
    return f"proposals/{proposal.rpartition('/')[2]}"
