"""The gRPC services: convert, call the logic in one transaction, convert back.

Who calls has been established, and whether they may, before anything here runs.
"""

# ruff: noqa: N802  (method names are those of the protos)

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias, TypeVar

import grpc
from finsecure.keyservice.v1 import (
    approvals_pb2_grpc,
    authorities_pb2_grpc,
    certificates_pb2,
    certificates_pb2_grpc,
    encryption_keys_pb2_grpc,
    members_pb2,
    members_pb2_grpc,
)
from finsecure_crypto.errors import AuthenticationError
from finsecure_rpc.logs import get_logger
from finsecure_rpc.paging import decode_token, encode_token, page_size
from finsecure_rpc.peer import require_peer

from finsecure_keyservice import (
    administration,
    approvals,
    convert,
    members,
    revocation,
    suspension,
)
from finsecure_keyservice.approval_service import ApprovalService
from finsecure_keyservice.approvals import DangerousAct
from finsecure_keyservice.authority_service import AuthorityService
from finsecure_keyservice.backend import Backend
from finsecure_keyservice.encryption_key_service import EncryptionKeyService
from finsecure_keyservice.enrolment import Issued, Requests
from finsecure_keyservice.names import MemberName
from finsecure_keyservice.own_identity import HOLDER
from finsecure_keyservice.store import Store

_log = get_logger(__name__)

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
            record = members.create_federation(
                store, wanted.name, wanted.display_name, self._backend.clock()
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
        record = await self._backend.read(lambda store: members.get_federation(store, request.name))
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
        page = [convert.federation(record, self._domain) for record in records[:size]]
        token = encode_token("ListFederations", (page[-1].name,)) if len(records) > size else ""
        return members_pb2.ListFederationsResponse(federations=page, next_page_token=token)


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
            request, wanted.name, members_pb2.CreateMemberResponse, act, stored=_without_api_key
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
        page = [convert.member(record, self._domain) for record in records[:size]]
        token = encode_token(scope, (page[-1].name,)) if len(records) > size else ""
        return members_pb2.ListMembersResponse(members=page, next_page_token=token)

    async def RevokeMember(
        self, request: members_pb2.RevokeMemberRequest, context: Context
    ) -> members_pb2.RevokeMemberResponse:
        """See the proto."""
        caller = require_peer().spiffe_id

        def act(store: Store) -> members_pb2.RevokeMemberResponse:
            administration.require_may_put_out(caller, request.name)
            now = self._backend.clock()
            record = members.revoke_member(store, request.name, request.reason, now)
            gone = MemberName.parse(request.name).spiffe_id(self._domain)
            approvals.withdraw_all(store.approvals, gone, now)
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
            away = MemberName.parse(request.name).spiffe_id(self._domain)
            approvals.withdraw_all(store.approvals, away, self._backend.clock())
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
            request, request.name, members_pb2.ReactivateMemberResponse, act
        )

    async def IssueApiKey(
        self, request: members_pb2.IssueApiKeyRequest, context: Context
    ) -> members_pb2.IssueApiKeyResponse:
        """See the proto."""
        dangerous = await self._readmission(request.name)

        def act(store: Store) -> members_pb2.IssueApiKeyResponse:
            administration.require_may_admit(request.name)
            administration.require_agreed(dangerous, store.member(request.name))
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
            dangerous=dangerous,
        )

    async def ReissueCredentials(
        self, request: members_pb2.ReissueCredentialsRequest, context: Context
    ) -> members_pb2.ReissueCredentialsResponse:
        """See the proto."""
        dangerous = await self._readmission(request.name)

        def act(store: Store) -> members_pb2.ReissueCredentialsResponse:
            administration.require_may_admit(request.name)
            administration.require_agreed(dangerous, store.member(request.name))
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
            dangerous=dangerous,
        )

    async def _readmission(self, name: str) -> DangerousAct | None:
        member = await self._backend.read(lambda store: store.member(name))
        return administration.readmission(member)


class EnrolmentService(certificates_pb2_grpc.EnrolmentServiceServicer):
    """From an API key to certificates, and to fresh ones."""

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
        try:
            issued = await self._backend.decide(
                "Enrol",
                "",
                lambda store: self._enrolment.enrol(store, request.api_key, requests, now),
            )
        except AuthenticationError as error:
            _log.warning("enrolment refused", reason=error.code, address=context.peer())
            raise
        _note("enrolled", issued)
        return certificates_pb2.EnrolResponse(
            member=convert.member(issued.member, self._enrolment.domain),
            certificates=convert.issued(issued, self._backend.feed.believed()),
        )

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
        page = records[:size]
        token = encode_token(scope, (page[-1].sequence,)) if len(records) > size else ""
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


KeyResponse = TypeVar(
    "KeyResponse",
    members_pb2.CreateMemberResponse,
    members_pb2.IssueApiKeyResponse,
    members_pb2.ReissueCredentialsResponse,
)


def _without_api_key(response: KeyResponse) -> KeyResponse:
    """The answer as it is remembered: the key is shown once and never stored."""
    kept = type(response)()
    kept.CopyFrom(response)
    kept.ClearField("api_key")
    return kept


def _note(event: str, issued: Issued) -> None:
    _log.info(
        event,
        member=issued.member.name,
        tls_serial=issued.tls.serial,
        signing_serial=issued.signing.serial,
        not_after=issued.tls.not_after.isoformat(),
    )


def services(backend: Backend) -> list[tuple[Callable[[Any, Any], None], object]]:
    """All services, each with the generated function that adds it to a server."""
    return [
        (members_pb2_grpc.add_FederationServiceServicer_to_server, FederationService(backend)),
        (members_pb2_grpc.add_MemberServiceServicer_to_server, MemberService(backend)),
        (certificates_pb2_grpc.add_EnrolmentServiceServicer_to_server, EnrolmentService(backend)),
        (
            certificates_pb2_grpc.add_CertificateServiceServicer_to_server,
            CertificateService(backend),
        ),
        (authorities_pb2_grpc.add_AuthorityServiceServicer_to_server, AuthorityService(backend)),
        (approvals_pb2_grpc.add_ApprovalServiceServicer_to_server, ApprovalService(backend)),
        (
            encryption_keys_pb2_grpc.add_EncryptionKeyServiceServicer_to_server,
            EncryptionKeyService(backend),
        ),
    ]
