"""A key service of a few lines for tests of its callers: enrols, renews, publishes revocations."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

from finsecure.keyservice.v1 import certificates_pb2, certificates_pb2_grpc, members_pb2
from finsecure_crypto.certificates import Purpose, Role, SpiffeId, check_request
from finsecure_crypto.errors import AuthenticationError, UnavailableError
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.peer import require_peer
from finsecure_rpc.policy import ANYONE, EVERY_ROLE, Access, Limits, domain_peers
from finsecure_rpc.server import Listener, RpcServer, build_server

from tests.support.pki import TestAuthority, utc_now
from tests.support.published import FederationRegister, PublicLog

CERTIFICATES = "/finsecure.keyservice.v1.CertificateService/"
ENROLMENT = "/finsecure.keyservice.v1.EnrolmentService/"
POLICY: dict[str, Access] = {
    ENROLMENT + "GetTrustBundle": ANYONE,
    ENROLMENT + "Enrol": ANYONE,
    ENROLMENT + "Join": ANYONE,
    ENROLMENT + "RenewCertificates": EVERY_ROLE,
    CERTIFICATES + "GetRevocationList": EVERY_ROLE,
    CERTIFICATES + "WatchRevocationList": EVERY_ROLE,
}


class ToyKeyService(
    certificates_pb2_grpc.EnrolmentServiceServicer,
    certificates_pb2_grpc.CertificateServiceServicer,
):
    def __init__(self, pki: TestAuthority) -> None:
        self.pki = pki
        self.api_keys: dict[str, SpiffeId] = {}
        self.answers: dict[tuple[bytes, ...], certificates_pb2.EnrolResponse] = {}
        self.lose_replies = 0
        self.lifetime = timedelta(hours=24)
        self.impostor: SpiffeId | None = None
        self.joins_as = ""
        self.minima = FederationRegister(PublicLog())
        self._published = asyncio.Condition()
        self._crl = pki.crl()

    async def publish(self, crl: bytes | None = None) -> None:
        async with self._published:
            self._crl = self.pki.crl() if crl is None else crl
            self._published.notify_all()

    async def revoke(self, *serials: int) -> None:
        self.pki.revoke(*serials)
        await self.publish()

    def _issue(self, spiffe_id, request) -> certificates_pb2.IssuedCertificates:
        not_after: datetime = utc_now() + self.lifetime
        issued = {}
        for purpose, csr in (
            (Purpose.TLS, request.tls_csr),
            (Purpose.SIGNING, request.signing_csr),
        ):
            key = check_request(csr, purpose)
            issued[purpose] = self.pki.issue(
                self.impostor or spiffe_id, purpose, key, not_after=not_after
            )
        return certificates_pb2.IssuedCertificates(
            tls_certificate=issued[Purpose.TLS],
            signing_certificate=issued[Purpose.SIGNING],
            trust_bundle=certificates_pb2.TrustBundle(
                roots=self.pki.anchors.roots, intermediates=self.pki.anchors.intermediates
            ),
        )

    async def Enrol(self, request, context):  # noqa: N802
        identity = (request.api_key.encode(), request.tls_csr, request.signing_csr)
        if identity not in self.answers:
            spiffe_id = self.api_keys.pop(request.api_key, None)
            if spiffe_id is None:
                raise AuthenticationError("API_KEY_REFUSED", "The API key is not valid.")
            self.answers[identity] = certificates_pb2.EnrolResponse(
                member=members_pb2.Member(name=f"members/{spiffe_id.id}", spiffe_id=str(spiffe_id)),
                certificates=self._issue(spiffe_id, request),
            )
        if self.lose_replies:
            self.lose_replies -= 1
            raise UnavailableError("LOST", "The reply was lost.")
        return self.answers[identity]

    async def Join(self, request, context):  # noqa: N802
        spiffe_id = self.pki.spiffe_id("client", self.joins_as or request.member_id)
        return certificates_pb2.JoinResponse(
            member=members_pb2.Member(name=f"members/{spiffe_id.id}", spiffe_id=str(spiffe_id)),
            certificates=self._issue(spiffe_id, request),
        )

    async def RenewCertificates(self, request, context):  # noqa: N802
        return certificates_pb2.RenewCertificatesResponse(
            certificates=self._issue(require_peer().spiffe_id, request)
        )

    async def WatchRevocationList(self, request, context):  # noqa: N802
        crl = b""
        while True:
            async with self._published:
                while self._crl == crl:
                    await self._published.wait()
                crl = self._crl
            yield certificates_pb2.WatchRevocationListResponse(crl=crl)


@asynccontextmanager
async def running_keyservice(
    folder: Path, pki: TestAuthority
) -> AsyncIterator[tuple[ToyKeyService, RpcServer]]:
    """Serve on two free ports: for members, and for enrolment."""
    store = pki.enrol(folder, Role.KEYSERVICE, "main")
    service = ToyKeyService(pki)
    server = build_server(
        [
            (certificates_pb2_grpc.add_EnrolmentServiceServicer_to_server, service),
            (certificates_pb2_grpc.add_CertificateServiceServicer_to_server, service),
            *dict.fromkeys(service.minima.services().values()),
        ],
        POLICY | dict.fromkeys(service.minima.services(), EVERY_ROLE),
        Authenticator(lambda: pki.anchors, pki, domain_peers(pki.domain)),
        [
            Listener("127.0.0.1:0", server_credentials(store)),
            Listener("127.0.0.1:0", server_credentials(store, client_certificates=False)),
        ],
        Limits(deadlines={CERTIFICATES + "WatchRevocationList": 3600.0}),
    )
    await server.start()
    try:
        yield service, server
    finally:
        await server.stop(0.2)
