"""The gRPC service of members and their API keys."""

# ruff: noqa: N802  (method names are those of the protos)

from typing import Any, TypeAlias, TypeVar

import grpc
from finsecure.keyservice.v1 import members_pb2, members_pb2_grpc
from finsecure_rpc.paging import decode_token, page_of, page_size
from finsecure_rpc.peer import require_peer

from finsecure_keyservice import administration, convert, members, suspension
from finsecure_keyservice.backend import Backend
from finsecure_keyservice.store import Store

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
KeyResponse = TypeVar(
    "KeyResponse",
    members_pb2.CreateMemberResponse,
    members_pb2.IssueApiKeyResponse,
    members_pb2.ReissueCredentialsResponse,
)


class MemberService(members_pb2_grpc.MemberServiceServicer):
    """Members and their API keys."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._domain = backend.enrolment.domain

    async def CreateMember(
        self, request: members_pb2.CreateMemberRequest, context: Context
    ) -> members_pb2.CreateMemberResponse:
        """See the proto."""
        wanted = request.member

        def act(store: Store) -> members_pb2.CreateMemberResponse:
            administration.require_may_admit(wanted.name)
            record, key = members.create_member(
                store,
                self._backend.api_keys,
                wanted.name,
                wanted.display_name,
                self._backend.clock(),
            )
            return members_pb2.CreateMemberResponse(
                member=convert.member(record, self._domain), api_key=key.expose()
            )

        return await self._backend.mutate(
            request,
            wanted.name,
            members_pb2.CreateMemberResponse,
            act,
            stored=_without_api_key,
            dangerous=administration.admission(wanted.name),
        )

    async def GetMember(
        self, request: members_pb2.GetMemberRequest, context: Context
    ) -> members_pb2.GetMemberResponse:
        """See the proto."""
        record = await self._backend.read(lambda store: members.get_member(store, request.name))
        return members_pb2.GetMemberResponse(member=convert.member(record, self._domain))

    async def ListMembers(
        self, request: members_pb2.ListMembersRequest, context: Context
    ) -> members_pb2.ListMembersResponse:
        """See the proto."""
        size = page_size(request.page_size)
        scope = f"ListMembers:{request.parent}"
        (after,) = decode_token(request.page_token, scope, (str,)) or ("",)
        records = await self._backend.read(
            lambda store: members.list_members(store, request.parent, after, size + 1)
        )
        found, token = page_of(records, size, scope, lambda record: (record.name,))
        page = [convert.member(record, self._domain) for record in found]
        return members_pb2.ListMembersResponse(members=page, next_page_token=token)

    async def RevokeMember(
        self, request: members_pb2.RevokeMemberRequest, context: Context
    ) -> members_pb2.RevokeMemberResponse:
        """See the proto."""
        caller = require_peer().spiffe_id

        def act(store: Store) -> members_pb2.RevokeMemberResponse:
            administration.require_may_put_out(caller, request.name)
            record = members.revoke_member(
                store, request.name, request.reason, self._backend.clock()
            )
            self._backend.withdraw_approvals(store, request.name)
            self._backend.rebuild_list(store)
            return members_pb2.RevokeMemberResponse(member=convert.member(record, self._domain))

        return await self._backend.mutate(
            request, request.name, members_pb2.RevokeMemberResponse, act
        )

    async def SuspendMember(
        self, request: members_pb2.SuspendMemberRequest, context: Context
    ) -> members_pb2.SuspendMemberResponse:
        """See the proto."""
        caller = require_peer().spiffe_id

        def act(store: Store) -> members_pb2.SuspendMemberResponse:
            administration.require_may_put_out(caller, request.name)
            record = suspension.suspend_member(store, request.name, request.reason)
            self._backend.withdraw_approvals(store, request.name)
            self._backend.rebuild_list(store)
            return members_pb2.SuspendMemberResponse(member=convert.member(record, self._domain))

        return await self._backend.mutate(
            request, request.name, members_pb2.SuspendMemberResponse, act
        )

    async def ReactivateMember(
        self, request: members_pb2.ReactivateMemberRequest, context: Context
    ) -> members_pb2.ReactivateMemberResponse:
        """See the proto."""
        caller = require_peer().spiffe_id

        def act(store: Store) -> members_pb2.ReactivateMemberResponse:
            administration.require_may_put_out(caller, request.name)
            record = suspension.reactivate_member(store, request.name)
            self._backend.rebuild_list(store)
            return members_pb2.ReactivateMemberResponse(member=convert.member(record, self._domain))

        return await self._backend.mutate(
            request,
            request.name,
            members_pb2.ReactivateMemberResponse,
            act,
            dangerous=administration.reactivation(request.name),
        )

    async def IssueApiKey(
        self, request: members_pb2.IssueApiKeyRequest, context: Context
    ) -> members_pb2.IssueApiKeyResponse:
        """See the proto."""

        def act(store: Store) -> members_pb2.IssueApiKeyResponse:
            administration.require_may_admit(request.name)
            key = members.issue_api_key(
                store, self._backend.api_keys, request.name, self._backend.clock()
            )
            return members_pb2.IssueApiKeyResponse(api_key=key.expose())

        return await self._backend.mutate(
            request,
            request.name,
            members_pb2.IssueApiKeyResponse,
            act,
            stored=_without_api_key,
            dangerous=administration.admission(request.name),
        )

    async def ReissueCredentials(
        self, request: members_pb2.ReissueCredentialsRequest, context: Context
    ) -> members_pb2.ReissueCredentialsResponse:
        """See the proto."""

        def act(store: Store) -> members_pb2.ReissueCredentialsResponse:
            administration.require_may_admit(request.name)
            key, ended = members.reissue_credentials(
                store, self._backend.api_keys, request.name, request.reason, self._backend.clock()
            )
            self._backend.rebuild_list(store)
            return members_pb2.ReissueCredentialsResponse(
                api_key=key.expose(),
                revoked_certificates=[f"certificates/{serial}" for serial in ended],
            )

        return await self._backend.mutate(
            request,
            request.name,
            members_pb2.ReissueCredentialsResponse,
            act,
            stored=_without_api_key,
            dangerous=administration.admission(request.name),
        )


def _without_api_key(response: KeyResponse) -> KeyResponse:
    """The answer as it is remembered: the key is shown once and never stored."""
    kept = type(response)()
    kept.CopyFrom(response)
    kept.ClearField("api_key")
    return kept
