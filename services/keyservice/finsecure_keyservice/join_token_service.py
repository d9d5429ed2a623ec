"""The gRPC service of join tokens."""

# ruff: noqa: N802  (method names are those of the protos)

from datetime import datetime, timedelta
from typing import Any, TypeAlias

import grpc
from finsecure.keyservice.v1 import join_tokens_pb2 as pb
from finsecure.keyservice.v1 import join_tokens_pb2_grpc
from finsecure_rpc.paging import decode_token, page_of, page_size

from finsecure_keyservice import convert, join_tokens
from finsecure_keyservice.backend import Backend
from finsecure_keyservice.federations import get_federation
from finsecure_keyservice.join_token_store import JoinRecord, JoinTokenRecord
from finsecure_keyservice.join_tokens import Invitation, Standing, standing
from finsecure_keyservice.store import Store

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_MOST_SECONDS = 10 * 366 * 86_400

_STATES = {
    Standing.ACTIVE: pb.JOIN_TOKEN_STATE_ACTIVE,
    Standing.SPENT: pb.JOIN_TOKEN_STATE_SPENT,
    Standing.EXPIRED: pb.JOIN_TOKEN_STATE_EXPIRED,
    Standing.REVOKED: pb.JOIN_TOKEN_STATE_REVOKED,
}


class JoinTokenService(join_tokens_pb2_grpc.JoinTokenServiceServicer):
    """Tokens by which several new members of one role come in."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def CreateJoinToken(
        self, request: pb.CreateJoinTokenRequest, context: Context
    ) -> pb.CreateJoinTokenResponse:
        """See the proto."""
        now = self._backend.clock()

        def act(store: Store) -> pb.CreateJoinTokenResponse:
            wanted = Invitation(
                request.parent,
                convert.role(request.role),
                request.id_prefix,
                request.maximum_uses,
                # Whole seconds; what is out of all bounds stays out of them.
                timedelta(seconds=max(0, min(request.lifetime.seconds, _MOST_SECONDS))),
            )
            record, token = self._backend.join_tokens.issue(store, wanted, now)
            return pb.CreateJoinTokenResponse(join_token=_message(record, now), text=token.expose())

        return await self._backend.mutate(
            request, request.parent, pb.CreateJoinTokenResponse, act, stored=_without_text
        )

    async def ListJoinTokens(
        self, request: pb.ListJoinTokensRequest, context: Context
    ) -> pb.ListJoinTokensResponse:
        """See the proto."""
        size, now = page_size(request.page_size), self._backend.clock()
        scope = f"ListJoinTokens:{request.parent}"
        (before,) = decode_token(request.page_token, scope, (int,)) or (None,)

        def read(store: Store) -> list[JoinTokenRecord]:
            get_federation(store, request.parent)
            return list(store.join_tokens.page(request.parent, before, size + 1))

        records = await self._backend.read(read)
        page, token = page_of(records, size, scope, lambda record: (record.sequence,))
        return pb.ListJoinTokensResponse(
            join_tokens=[_message(record, now) for record in page], next_page_token=token
        )

    async def ListJoinTokenUses(
        self, request: pb.ListJoinTokenUsesRequest, context: Context
    ) -> pb.ListJoinTokenUsesResponse:
        """See the proto."""
        size = page_size(request.page_size)
        scope = f"ListJoinTokenUses:{request.parent}"
        (after,) = decode_token(request.page_token, scope, (int,)) or (0,)

        def read(store: Store) -> list[JoinRecord]:
            record = join_tokens.get(store, request.parent)
            return list(store.join_tokens.joins(record.id, after, size + 1))

        records = await self._backend.read(read)
        page, token = page_of(records, size, scope, lambda record: (record.sequence,))
        uses = [
            pb.JoinTokenUse(member=record.member, join_time=convert.timestamp(record.spending.time))
            for record in page
        ]
        return pb.ListJoinTokenUsesResponse(uses=uses, next_page_token=token)

    async def RevokeJoinToken(
        self, request: pb.RevokeJoinTokenRequest, context: Context
    ) -> pb.RevokeJoinTokenResponse:
        """See the proto."""
        now = self._backend.clock()

        def act(store: Store) -> pb.RevokeJoinTokenResponse:
            record, put_out = join_tokens.revoke(
                store, request.name, request.reason, now, with_members=request.revoke_members
            )
            if put_out:
                self._backend.rebuild_list(store)
            return pb.RevokeJoinTokenResponse(
                join_token=_message(record, now), revoked_members=put_out
            )

        return await self._backend.mutate(request, request.name, pb.RevokeJoinTokenResponse, act)


def _message(record: JoinTokenRecord, now: datetime) -> pb.JoinToken:
    message = pb.JoinToken(
        name=record.name,
        role=convert.role_value(record.role),
        id_prefix=record.id_prefix,
        maximum_uses=record.maximum_uses,
        uses=record.uses,
        state=_STATES[standing(record, now)],
        create_time=convert.timestamp(record.create_time),
        expire_time=convert.timestamp(record.expire_time),
    )
    if record.revoke_time is not None:
        message.revoke_time.CopyFrom(convert.timestamp(record.revoke_time))
    return message


def _without_text(response: pb.CreateJoinTokenResponse) -> pb.CreateJoinTokenResponse:
    """The answer as it is remembered: the text is shown once and never stored."""
    return pb.CreateJoinTokenResponse(join_token=response.join_token)
