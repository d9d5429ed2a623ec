"""The gRPC service that turns an API key or a join token into certificates, and renews them."""

# ruff: noqa: N802  (method names are those of the protos)

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
from finsecure.keyservice.v1 import certificates_pb2, certificates_pb2_grpc
from finsecure_crypto.errors import AuthenticationError
from finsecure_rpc.logs import get_logger
from finsecure_rpc.peer import require_peer

from finsecure_keyservice import convert
from finsecure_keyservice.backend import Backend
from finsecure_keyservice.enrolment import Issued, Requests
from finsecure_keyservice.joining import join
from finsecure_keyservice.store import Store

_log = get_logger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class EnrolmentService(certificates_pb2_grpc.EnrolmentServiceServicer):
    """From an API key or a join token to certificates, and to fresh ones."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._enrolment = backend.enrolment

    async def GetTrustBundle(
        self, request: certificates_pb2.GetTrustBundleRequest, context: Context
    ) -> certificates_pb2.GetTrustBundleResponse:
        """See the proto."""
        return certificates_pb2.GetTrustBundleResponse(
            trust_bundle=convert.trust_bundle(self._backend.feed.believed())
        )

    async def Enrol(
        self, request: certificates_pb2.EnrolRequest, context: Context
    ) -> certificates_pb2.EnrolResponse:
        """See the proto."""
        requests = Requests(request.tls_csr, request.signing_csr)
        now = self._backend.clock()
        issued = await self._admit(
            "Enrol",
            lambda store: self._enrolment.enrol(store, request.api_key, requests, now),
            context,
        )
        return certificates_pb2.EnrolResponse(
            member=convert.member(issued.member, self._enrolment.domain),
            certificates=convert.issued(issued, self._backend.feed.believed()),
        )

    async def Join(
        self, request: certificates_pb2.JoinRequest, context: Context
    ) -> certificates_pb2.JoinResponse:
        """See the proto."""
        requests = Requests(request.tls_csr, request.signing_csr)
        now = self._backend.clock()
        issued = await self._admit(
            "Join",
            lambda store: join(
                self._enrolment, store, request.join_token, request.member_id, requests, now
            ),
            context,
        )
        return certificates_pb2.JoinResponse(
            member=convert.member(issued.member, self._enrolment.domain),
            certificates=convert.issued(issued, self._backend.feed.believed()),
        )

    async def _admit(self, method: str, act: Callable[[Store], Issued], context: Context) -> Issued:
        """Let somebody in who has no certificate yet."""
        try:
            issued = await self._backend.decide(method, "", act)
        except AuthenticationError as error:
            _log.warning("enrolment refused", reason=error.code, address=context.peer())
            raise
        _note("enrolled", issued)
        return issued

    async def RenewCertificates(
        self, request: certificates_pb2.RenewCertificatesRequest, context: Context
    ) -> certificates_pb2.RenewCertificatesResponse:
        """See the proto."""
        peer = require_peer()
        requests = Requests(request.tls_csr, request.signing_csr)
        now = self._backend.clock()
        issued = await self._backend.decide(
            "RenewCertificates",
            "",
            lambda store: self._enrolment.renew(
                store, peer.spiffe_id, f"{peer.serial:x}", requests, now
            ),
        )
        _note("renewed", issued)
        return certificates_pb2.RenewCertificatesResponse(
            certificates=convert.issued(issued, self._backend.feed.believed())
        )


def _note(event: str, issued: Issued) -> None:
    _log.info(
        event,
        member=issued.member.name,
        tls_serial=issued.tls.serial,
        signing_serial=issued.signing.serial,
        not_after=issued.tls.not_after.isoformat(),
    )
