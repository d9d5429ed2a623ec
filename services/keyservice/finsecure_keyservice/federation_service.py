"""The gRPC service of federations."""

# ruff: noqa: N802  (method names are those of the protos)

from typing import Any, TypeAlias

import grpc
from finsecure.keyservice.v1 import members_pb2, members_pb2_grpc
from finsecure_rpc.paging import decode_token, page_of, page_size

from finsecure_keyservice import convert, federations
from finsecure_keyservice.backend import Backend
from finsecure_keyservice.own_federation import require_own_federation
from finsecure_keyservice.store import Store

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class FederationService(members_pb2_grpc.FederationServiceServicer):
    """Federations."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._domain = backend.enrolment.domain

    async def CreateFederation(
        self, request: members_pb2.CreateFederationRequest, context: Context
    ) -> members_pb2.CreateFederationResponse:
        """See the proto."""
        wanted = request.federation

        def act(store: Store) -> members_pb2.CreateFederationResponse:
            record = federations.create_federation(
                store,
                wanted.name,
                wanted.display_name,
                self._backend.clock(),
                minimum_cohort=wanted.minimum_cohort,
                minimum_sum_cohort=wanted.minimum_sum_cohort,
            )
            return members_pb2.CreateFederationResponse(
                federation=convert.federation(record, self._domain)
            )

        return await self._backend.mutate(
            request, wanted.name, members_pb2.CreateFederationResponse, act
        )

    async def GetFederation(
        self, request: members_pb2.GetFederationRequest, context: Context
    ) -> members_pb2.GetFederationResponse:
        """See the proto."""
        require_own_federation(request.name, self._domain)
        record = await self._backend.read(
            lambda store: federations.get_federation(store, request.name)
        )
        return members_pb2.GetFederationResponse(
            federation=convert.federation(record, self._domain)
        )

    async def ListFederations(
        self, request: members_pb2.ListFederationsRequest, context: Context
    ) -> members_pb2.ListFederationsResponse:
        """See the proto."""
        size = page_size(request.page_size)
        (after,) = decode_token(request.page_token, "ListFederations", (str,)) or ("",)
        records = await self._backend.read(lambda store: store.federations(after, size + 1))
        found, token = page_of(records, size, "ListFederations", lambda record: (record.name,))
        page = [convert.federation(record, self._domain) for record in found]
        return members_pb2.ListFederationsResponse(federations=page, next_page_token=token)

    async def UpdateFederation(
        self, request: members_pb2.UpdateFederationRequest, context: Context
    ) -> members_pb2.UpdateFederationResponse:
        """See the proto."""
        change = convert.federation_change(request)
        found = await self._backend.read(lambda store: store.federation(change.name))
        dangerous = federations.lowering(found, change)

        def act(store: Store) -> members_pb2.UpdateFederationResponse:
            record = federations.update_federation(store, change, agreed=dangerous is not None)
            return members_pb2.UpdateFederationResponse(
                federation=convert.federation(record, self._domain)
            )

        return await self._backend.mutate(
            request,
            change.name,
            members_pb2.UpdateFederationResponse,
            act,
            dangerous=dangerous,
        )
