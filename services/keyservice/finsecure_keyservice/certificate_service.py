"""The gRPC service of certificates and the revocation list."""

# ruff: noqa: N802  (method names are those of the protos)

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from finsecure.keyservice.v1 import certificates_pb2, certificates_pb2_grpc
from finsecure_rpc.paging import decode_token, page_of, page_size
from finsecure_rpc.peer import require_peer

from finsecure_keyservice import administration, convert, revocation
from finsecure_keyservice.backend import Backend
from finsecure_keyservice.own_identity import HOLDER
from finsecure_keyservice.store import Store

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class CertificateService(certificates_pb2_grpc.CertificateServiceServicer):
    """Certificates and the revocation list."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def ListCertificates(
        self, request: certificates_pb2.ListCertificatesRequest, context: Context
    ) -> certificates_pb2.ListCertificatesResponse:
        """See the proto."""
        size = page_size(request.page_size)
        scope = f"ListCertificates:{request.member}"
        (before,) = decode_token(request.page_token, scope, (int,)) or (None,)
        records = await self._backend.read(
            lambda store: store.certificates(request.member, before, size + 1)
        )
        page, token = page_of(records, size, scope, lambda record: (record.sequence,))
        return certificates_pb2.ListCertificatesResponse(
            certificates=[convert.certificate(record) for record in page], next_page_token=token
        )

    async def RevokeCertificate(
        self, request: certificates_pb2.RevokeCertificateRequest, context: Context
    ) -> certificates_pb2.RevokeCertificateResponse:
        """See the proto."""
        caller = require_peer().spiffe_id

        def act(store: Store) -> certificates_pb2.RevokeCertificateResponse:
            record = revocation.revoke_certificate(
                store, convert.serial(request.name), request.reason, self._backend.clock()
            )
            if record.member != HOLDER:
                administration.require_may_put_out(caller, record.member)
                self._backend.withdraw_approvals(store, record.member)
            self._backend.rebuild_list(store)
            return certificates_pb2.RevokeCertificateResponse(
                certificate=convert.certificate(record)
            )

        return await self._backend.mutate(
            request, request.name, certificates_pb2.RevokeCertificateResponse, act
        )

    async def GetRevocationList(
        self, request: certificates_pb2.GetRevocationListRequest, context: Context
    ) -> certificates_pb2.GetRevocationListResponse:
        """See the proto."""
        feed = self._backend.feed
        return certificates_pb2.GetRevocationListResponse(
            crl=feed.current().der, trust_bundle=convert.trust_bundle(feed.believed())
        )

    async def WatchRevocationList(
        self,
        request: certificates_pb2.WatchRevocationListRequest,
        context: Context,
    ) -> AsyncIterator[certificates_pb2.WatchRevocationListResponse]:
        """See the proto."""
        async for crl, believed in self._backend.feed.watch():
            yield certificates_pb2.WatchRevocationListResponse(
                crl=crl, trust_bundle=convert.trust_bundle(believed)
            )
