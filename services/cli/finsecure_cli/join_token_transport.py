"""An operator's calls about join tokens; answers come back as documents."""

import uuid
from datetime import timedelta

from finsecure.keyservice.v1 import join_tokens_pb2 as pb
from finsecure.keyservice.v1 import join_tokens_pb2_grpc, members_pb2

from finsecure_cli.convert import Document, document
from finsecure_cli.transport import PAGE, Services

_STUB = join_tokens_pb2_grpc.JoinTokenServiceStub


def token_name(services: Services, token: str) -> str:
    """Resource name of a token, by its id."""
    return f"{services.federation}/joinTokens/{token}"


async def create_join_token(
    services: Services, role: str, prefix: str, uses: int, lifetime: timedelta
) -> tuple[Document, str]:
    """Make a token; returns it and its text, which is shown this once."""
    request = pb.CreateJoinTokenRequest(
        parent=services.federation,
        role=members_pb2.MemberRole.Value(f"MEMBER_ROLE_{role.upper()}"),
        id_prefix=prefix,
        maximum_uses=uses,
        request_id=str(uuid.uuid4()),
    )
    request.lifetime.FromTimedelta(lifetime)
    answer = await services.keys(_STUB, "CreateJoinToken", request)
    return document(answer.join_token), str(answer.text)


async def list_join_tokens(services: Services) -> list[Document]:
    """List the federation's tokens, newest first."""
    return await services.pages(
        lambda token: services.keys(
            _STUB,
            "ListJoinTokens",
            pb.ListJoinTokensRequest(parent=services.federation, page_size=PAGE, page_token=token),
        ),
        "join_tokens",
    )


async def list_join_token_uses(services: Services, join_token: str) -> list[Document]:
    """List who came in by a token, oldest first."""
    return await services.pages(
        lambda token: services.keys(
            _STUB,
            "ListJoinTokenUses",
            pb.ListJoinTokenUsesRequest(
                parent=token_name(services, join_token), page_size=PAGE, page_token=token
            ),
        ),
        "uses",
    )


async def revoke_join_token(
    services: Services, token: str, reason: str, *, members: bool
) -> tuple[Document, list[str]]:
    """End a token; returns it and the members that were put out with it."""
    request = pb.RevokeJoinTokenRequest(
        name=token_name(services, token),
        reason=reason,
        revoke_members=members,
        request_id=str(uuid.uuid4()),
    )
    answer = await services.keys(_STUB, "RevokeJoinToken", request)
    return document(answer.join_token), list(answer.revoked_members)
