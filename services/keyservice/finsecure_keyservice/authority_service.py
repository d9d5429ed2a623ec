"""The gRPC service by which the intermediate authority is replaced."""

# ruff: noqa: N802  (method names are those of the protos)

from typing import Any, TypeAlias

import grpc
from finsecure.keyservice.v1 import authorities_pb2, authorities_pb2_grpc
from finsecure_rpc.paging import decode_token, page_of, page_size

from finsecure_keyservice import convert
from finsecure_keyservice.approvals import DangerousAct
from finsecure_keyservice.authority_store import AuthorityRecord
from finsecure_keyservice.backend import Backend
from finsecure_keyservice.store import Store

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AuthorityService(authorities_pb2_grpc.AuthorityServiceServicer):
    """Intermediate authorities."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._rotation = backend.rotation

    async def ListAuthorities(
        self, request: authorities_pb2.ListAuthoritiesRequest, context: Context
    ) -> authorities_pb2.ListAuthoritiesResponse:
        """See the proto."""
        size = page_size(request.page_size)
        (before,) = decode_token(request.page_token, "ListAuthorities", (int,)) or (None,)

        def read(store: Store) -> authorities_pb2.ListAuthoritiesResponse:
            records = store.authorities.page(before, size + 1)
            page, token = page_of(records, size, "ListAuthorities", lambda r: (r.sequence,))
            return authorities_pb2.ListAuthoritiesResponse(
                authorities=[self._message(store, record) for record in page],
                next_page_token=token,
            )

        return await self._backend.read(read)

    async def PrepareAuthority(
        self, request: authorities_pb2.PrepareAuthorityRequest, context: Context
    ) -> authorities_pb2.PrepareAuthorityResponse:
        """See the proto."""

        def act(store: Store) -> authorities_pb2.PrepareAuthorityResponse:
            record = self._rotation.prepare(store.authorities, self._backend.clock())
            return authorities_pb2.PrepareAuthorityResponse(authority=self._message(store, record))

        return await self._backend.mutate(
            request, "authorities", authorities_pb2.PrepareAuthorityResponse, act
        )

    async def InstallAuthority(
        self, request: authorities_pb2.InstallAuthorityRequest, context: Context
    ) -> authorities_pb2.InstallAuthorityResponse:
        """See the proto."""

        def act(store: Store) -> authorities_pb2.InstallAuthorityResponse:
            record = self._rotation.install(
                store.authorities,
                convert.authority_id(request.name),
                request.certificate,
                self._backend.clock(),
            )
            return authorities_pb2.InstallAuthorityResponse(
                authority=self._announced(store, record)
            )

        return await self._backend.mutate(
            request, request.name, authorities_pb2.InstallAuthorityResponse, act
        )

    async def ActivateAuthority(
        self, request: authorities_pb2.ActivateAuthorityRequest, context: Context
    ) -> authorities_pb2.ActivateAuthorityResponse:
        """See the proto."""

        def act(store: Store) -> authorities_pb2.ActivateAuthorityResponse:
            record = self._rotation.activate(
                store.authorities,
                convert.authority_id(request.name),
                self._backend.clock(),
                force=request.force,
            )
            return authorities_pb2.ActivateAuthorityResponse(
                authority=self._announced(store, record)
            )

        forced = DangerousAct(
            "authorities.activate",
            f"let {request.name} issue although not everybody knows it yet",
        )
        return await self._backend.mutate(
            request,
            request.name,
            authorities_pb2.ActivateAuthorityResponse,
            act,
            dangerous=forced if request.force else None,
        )

    async def TaintAuthority(
        self, request: authorities_pb2.TaintAuthorityRequest, context: Context
    ) -> authorities_pb2.TaintAuthorityResponse:
        """See the proto."""

        def act(store: Store) -> authorities_pb2.TaintAuthorityResponse:
            record = self._rotation.taint(
                store.authorities, convert.authority_id(request.name), request.reason
            )
            return authorities_pb2.TaintAuthorityResponse(authority=self._announced(store, record))

        return await self._backend.mutate(
            request, request.name, authorities_pb2.TaintAuthorityResponse, act
        )

    async def RevokeAuthority(
        self, request: authorities_pb2.RevokeAuthorityRequest, context: Context
    ) -> authorities_pb2.RevokeAuthorityResponse:
        """See the proto."""

        def act(store: Store) -> authorities_pb2.RevokeAuthorityResponse:
            record = self._rotation.revoke(
                store.authorities,
                convert.authority_id(request.name),
                request.reason,
                self._backend.clock(),
                force=request.force,
            )
            return authorities_pb2.RevokeAuthorityResponse(authority=self._announced(store, record))

        forced = " even if members depend on it" if request.force else ""
        return await self._backend.mutate(
            request,
            request.name,
            authorities_pb2.RevokeAuthorityResponse,
            act,
            dangerous=DangerousAct(
                "authorities.revoke", f"revoke {request.name}{forced}: {request.reason}"
            ),
        )

    def _announced(self, store: Store, record: AuthorityRecord) -> authorities_pb2.Authority:
        """Make the list that carries the change to everybody, in the same transaction."""
        self._backend.rebuild_list(store)
        return self._message(store, record)

    def _message(self, store: Store, record: AuthorityRecord) -> authorities_pb2.Authority:
        return convert.authority(
            record,
            self._rotation.propagated(record),
            self._rotation.dependents(store.authorities, record, self._backend.clock()),
        )
