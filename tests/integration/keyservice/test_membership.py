"""From an API key to certificates and out again, over the wire."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure.keyservice.v1 import approvals_pb2 as approvals
from finsecure.keyservice.v1 import approvals_pb2_grpc as approvals_grpc
from finsecure.keyservice.v1 import certificates_pb2 as certificates
from finsecure.keyservice.v1 import certificates_pb2_grpc as certificates_grpc
from finsecure.keyservice.v1 import members_pb2 as members
from finsecure.keyservice.v1 import members_pb2_grpc as members_grpc
from finsecure_crypto.certificates import RevocationList
from finsecure_crypto.errors import (
    AuthenticationError,
    InvalidArgumentError,
    PermissionDeniedError,
    StateError,
)
from finsecure_rpc.call import call
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.connection import Connection
from finsecure_rpc.renewal import Renewer
from finsecure_rpc.requests import new_keys

from tests.support.encryption_keys import approve
from tests.support.keyservice import hostile_tls_requests
from tests.support.keyservice_deployment import BANK, LENDING, Deployment, deployed, new_id

NORTH = f"{LENDING}/trustees/north"


def _enrol_request(api_key: str) -> certificates.EnrolRequest:
    keys = new_keys()
    return certificates.EnrolRequest(
        api_key=api_key, tls_csr=keys.tls_csr, signing_csr=keys.signing_csr
    )


async def _enrol(
    keyservice: Deployment, request: certificates.EnrolRequest
) -> certificates.EnrolResponse:
    async with open_anonymous_channel(keyservice.enrol_address, keyservice.root_pem) as channel:
        stub = certificates_grpc.EnrolmentServiceStub(channel)
        return await call(stub.Enrol, request, deadline_s=10)


async def _newest_list(connection: Connection) -> x509.CertificateRevocationList:
    stub = connection.stub(certificates_grpc.CertificateServiceStub)
    response = await connection.call(
        stub.GetRevocationList, certificates.GetRevocationListRequest()
    )
    return x509.load_der_x509_crl(response.crl)


async def _revoke_member(keyservice: Deployment, name: str) -> None:
    stub = keyservice.operator.stub(members_grpc.MemberServiceStub)
    response = await keyservice.operator.call(
        stub.RevokeMember,
        members.RevokeMemberRequest(name=name, reason="left", request_id=new_id()),
    )
    assert response.member.state == members.MEMBER_STATE_REVOKED


async def _list_certificates(keyservice: Deployment, member: str) -> list[certificates.Certificate]:
    stub = keyservice.operator.stub(certificates_grpc.CertificateServiceStub)
    response = await keyservice.operator.call(
        stub.ListCertificates, certificates.ListCertificatesRequest(member=member)
    )
    return list(response.certificates)


@pytest.mark.parametrize(
    ("name", "role", "spiffe_id"),
    [
        (BANK, members.MEMBER_ROLE_CLIENT, "spiffe://lending.finsecure.test/client/bank-1"),
        (
            f"{LENDING}/aggregators/main",
            members.MEMBER_ROLE_AGGREGATOR,
            "spiffe://lending.finsecure.test/aggregator/main",
        ),
        ("operators/bob", members.MEMBER_ROLE_OPERATOR, "spiffe://finsecure.test/operator/bob"),
    ],
)
async def test_every_kind_of_member_enrols_the_same_way(
    keyservice: Deployment, name: str, role: members.MemberRole, spiffe_id: str
) -> None:
    stub = keyservice.operator.stub(members_grpc.MemberServiceStub)
    key = await keyservice.create(name)
    invited = await keyservice.operator.call(stub.GetMember, members.GetMemberRequest(name=name))
    assert invited.member.state == members.MEMBER_STATE_INVITED
    store = await keyservice.enrol(name, key)
    assert str(store.current().spiffe_id) == spiffe_id
    active = await keyservice.operator.call(stub.GetMember, members.GetMemberRequest(name=name))
    assert active.member.state == members.MEMBER_STATE_ACTIVE
    assert active.member.role == role
    assert active.member.spiffe_id == spiffe_id
    await _newest_list(keyservice.connect(store))


async def test_a_key_is_spent_once_and_the_same_call_gets_the_same_answer(
    keyservice: Deployment,
) -> None:
    key = await keyservice.create(BANK)
    request = _enrol_request(key)
    first, *others = await asyncio.gather(*(_enrol(keyservice, request) for _ in range(4)))
    assert others == [first] * 3
    with pytest.raises(AuthenticationError, match="API_KEY_SPENT"):
        await _enrol(keyservice, _enrol_request(key))
    assert len(await _list_certificates(keyservice, BANK)) == 2


async def test_of_two_who_race_for_one_key_one_wins(keyservice: Deployment) -> None:
    key = await keyservice.create(BANK)
    outcomes = await asyncio.gather(
        *(_enrol(keyservice, _enrol_request(key)) for _ in range(6)), return_exceptions=True
    )
    failures = [outcome for outcome in outcomes if isinstance(outcome, AuthenticationError)]
    assert [failure.code for failure in failures] == ["API_KEY_SPENT"] * 5
    assert len(await _list_certificates(keyservice, BANK)) == 2


async def test_a_reissued_key_voids_the_old_one(keyservice: Deployment) -> None:
    old = await keyservice.create(BANK)
    stub = keyservice.operator.stub(members_grpc.MemberServiceStub)
    response = await keyservice.operator.call(
        stub.IssueApiKey, members.IssueApiKeyRequest(name=BANK, request_id=new_id())
    )
    with pytest.raises(AuthenticationError, match="API_KEY_REJECTED"):
        await _enrol(keyservice, _enrol_request(old))
    await _enrol(keyservice, _enrol_request(response.api_key))


@pytest.mark.parametrize("wrong", ["truncated", "signature changed", "RSA", "deep nesting"])
async def test_hostile_requests_get_a_reason_and_leave_the_key_good(
    keyservice: Deployment, wrong: str
) -> None:
    key = await keyservice.create(BANK)
    request = _enrol_request(key)
    hostile = certificates.EnrolRequest()
    hostile.CopyFrom(request)
    hostile.tls_csr = hostile_tls_requests()[wrong][:8192]
    with pytest.raises(InvalidArgumentError, match="REQUEST_"):
        await _enrol(keyservice, hostile)
    hostile.tls_csr = b"\x30" * 8193
    with pytest.raises(InvalidArgumentError, match="INVALID_MESSAGE"):
        await _enrol(keyservice, hostile)
    await _enrol(keyservice, request)


async def test_anybody_may_read_the_trust_bundle_and_nothing_more(keyservice: Deployment) -> None:
    async with open_anonymous_channel(keyservice.enrol_address, keyservice.root_pem) as channel:
        stub = certificates_grpc.EnrolmentServiceStub(channel)
        response = await call(
            stub.GetTrustBundle, certificates.GetTrustBundleRequest(), deadline_s=10
        )
        root = x509.load_der_x509_certificate(response.trust_bundle.roots[0])
        assert root == x509.load_pem_x509_certificate(keyservice.root_pem)
        assert len(response.trust_bundle.intermediates) == 1


async def test_who_has_no_certificate_does_not_get_onto_the_members_port(
    keyservice: Deployment,
) -> None:
    async with open_anonymous_channel(keyservice.address, keyservice.root_pem) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await certificates_grpc.EnrolmentServiceStub(channel).GetTrustBundle(
                certificates.GetTrustBundleRequest(), timeout=3
            )
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_renewal_gives_fresh_certificates_to_the_same_identity(
    keyservice: Deployment,
) -> None:
    store = await keyservice.enrol(BANK, await keyservice.create(BANK))
    connection = keyservice.connect(store)
    before = store.current()
    after = await Renewer(store, connection).renew_now()
    assert after.spiffe_id == before.spiffe_id
    assert after.certified.serial != before.certified.serial
    await _newest_list(connection)
    assert [item.member for item in await _list_certificates(keyservice, BANK)] == [BANK] * 4


async def test_a_revoked_member_is_out_at_once_on_its_open_channel(keyservice: Deployment) -> None:
    store = await keyservice.enrol(BANK, await keyservice.create(BANK))
    bank, other = keyservice.connect(store), await keyservice.member(f"{LENDING}/clients/bank-2")
    watches = [
        connection.stream(
            connection.stub(certificates_grpc.CertificateServiceStub).WatchRevocationList,
            certificates.WatchRevocationListRequest(),
            deadline_s=60,
        )
        for connection in (bank, other)
    ]
    firsts = [x509.load_der_x509_crl((await anext(watch)).crl) for watch in watches]
    assert all(len(first) == 0 for first in firsts)
    unused = await keyservice.operator.call(
        keyservice.operator.stub(members_grpc.MemberServiceStub).IssueApiKey,
        members.IssueApiKeyRequest(name=BANK, request_id=new_id()),
    )

    await _revoke_member(keyservice, BANK)

    with pytest.raises(AuthenticationError, match="CERTIFICATE_REVOKED"):
        await _newest_list(bank)
    with pytest.raises(AuthenticationError, match="CERTIFICATE_REVOKED"):
        await Renewer(store, bank).renew_now()
    with pytest.raises(AuthenticationError, match="API_KEY_REJECTED"):
        await _enrol(keyservice, _enrol_request(unused.api_key))
    # The others learn of it, and the revoked member's own stream ends.
    news = x509.load_der_x509_crl((await asyncio.wait_for(anext(watches[1]), 5)).crl)
    serial = store.current().certified.serial
    assert news.get_revoked_certificate_by_serial_number(serial) is not None
    with pytest.raises(AuthenticationError, match="CERTIFICATE_REVOKED"):
        await asyncio.wait_for(_drain(watches[0]), 5)


async def test_one_certificate_is_revoked_without_ending_the_membership(
    keyservice: Deployment,
) -> None:
    bank = await keyservice.member(BANK)
    (tls,) = [
        item
        for item in await _list_certificates(keyservice, BANK)
        if item.purpose == certificates.CERTIFICATE_PURPOSE_TLS
    ]
    stub = keyservice.operator.stub(certificates_grpc.CertificateServiceStub)
    request = certificates.RevokeCertificateRequest(
        name=tls.name, reason="laptop lost", request_id=new_id()
    )
    response = await keyservice.operator.call(stub.RevokeCertificate, request)
    assert response.certificate.revoke_reason == "laptop lost"
    assert response.certificate.HasField("revoke_time")
    with pytest.raises(AuthenticationError, match="CERTIFICATE_REVOKED"):
        await _newest_list(bank)
    again = await keyservice.operator.call(stub.RevokeCertificate, request)
    assert again == response
    request.request_id = new_id()
    with pytest.raises(StateError, match="CERTIFICATE_REVOKED"):
        await keyservice.operator.call(stub.RevokeCertificate, request)
    key = await keyservice.operator.call(
        keyservice.operator.stub(members_grpc.MemberServiceStub).IssueApiKey,
        members.IssueApiKeyRequest(name=BANK, request_id=new_id()),
    )
    await _enrol(keyservice, _enrol_request(key.api_key))


async def test_a_leak_makes_everything_worthless_and_the_membership_goes_on(
    keyservice: Deployment,
) -> None:
    thief = await keyservice.member(BANK)
    await _newest_list(thief)
    stub = keyservice.operator.stub(members_grpc.MemberServiceStub)
    unused = await keyservice.operator.call(
        stub.IssueApiKey, members.IssueApiKeyRequest(name=BANK, request_id=new_id())
    )
    request = members.ReissueCredentialsRequest(
        name=BANK, reason="the key was in a mail", request_id=new_id()
    )
    answer = await keyservice.operator.call(stub.ReissueCredentials, request)
    assert len(answer.revoked_certificates) == 2
    with pytest.raises(AuthenticationError, match="CERTIFICATE_REVOKED"):
        await _newest_list(thief)
    with pytest.raises(AuthenticationError, match="API_KEY_REJECTED"):
        await _enrol(keyservice, _enrol_request(unused.api_key))
    again = await keyservice.operator.call(stub.ReissueCredentials, request)
    assert again.api_key == ""
    assert again.revoked_certificates == answer.revoked_certificates
    response = await _enrol(keyservice, _enrol_request(answer.api_key))
    assert response.member.state == members.MEMBER_STATE_ACTIVE
    await _revoke_member(keyservice, BANK)
    request.request_id = new_id()
    with pytest.raises(StateError, match="MEMBER_REVOKED"):
        await keyservice.operator.call(stub.ReissueCredentials, request)


async def test_one_operator_makes_no_trustee_and_takes_the_place_of_none(
    keyservice: Deployment,
) -> None:
    async def asked(by: Connection, method: str) -> str:
        stub = by.stub(members_grpc.MemberServiceStub)
        request = {
            "CreateMember": members.CreateMemberRequest(member=members.Member(name=NORTH)),
            "IssueApiKey": members.IssueApiKeyRequest(name=NORTH),
            "ReissueCredentials": members.ReissueCredentialsRequest(name=NORTH, reason="lost"),
        }[method]
        request.request_id = new_id()
        return str((await by.call(getattr(stub, method), request)).api_key)

    async def open_proposals() -> list[approvals.Proposal]:
        listed = await dave.call(stub.ListProposals, approvals.ListProposalsRequest(open_only=True))
        return list(listed.proposals)

    carol, dave = await keyservice.officer("carol"), await keyservice.officer("dave")
    stub = dave.stub(approvals_grpc.ApprovalServiceStub)
    key = ""
    # A trustee that is registered and has not enrolled yet has a place that could be taken, too.
    for method in ("CreateMember", "IssueApiKey", "ReissueCredentials"):
        with pytest.raises(PermissionDeniedError, match="ROLE_NOT_ALLOWED"):
            await asked(keyservice.operator, method)
        assert not await open_proposals()
        with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
            await asked(carol, method)
        (proposal,) = await open_proposals()
        assert (proposal.action, NORTH in proposal.summary) == ("trustees.admit", True)
        approve = approvals.ApproveProposalRequest(name=proposal.name, request_id=new_id())
        with pytest.raises(PermissionDeniedError, match="SELF_APPROVAL"):
            await carol.call(
                carol.stub(approvals_grpc.ApprovalServiceStub).ApproveProposal, approve
            )
        with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
            await asked(carol, method)
        await dave.call(stub.ApproveProposal, approve)
        key = await asked(carol, method)
    await keyservice.enrol(NORTH, key)


@pytest.mark.parametrize("how", ["certificate revoked", "new API key"])
async def test_what_an_officer_approved_ends_with_its_certificate_or_its_key(
    keyservice: Deployment, how: str
) -> None:
    async def admit() -> str:
        stub = carol.stub(members_grpc.MemberServiceStub)
        request = members.CreateMemberRequest(
            member=members.Member(name=NORTH), request_id=new_id()
        )
        return str((await carol.call(stub.CreateMember, request)).api_key)

    carol, dave = await keyservice.officer("carol"), await keyservice.officer("dave")
    with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
        await admit()
    await approve(dave)
    if how == "new API key":
        await asyncio.to_thread(keyservice.issue_locally, "officers/dave")
    else:
        (tls, _) = await _list_certificates(keyservice, "officers/dave")
        await carol.call(
            carol.stub(certificates_grpc.CertificateServiceStub).RevokeCertificate,
            certificates.RevokeCertificateRequest(
                name=tls.name, reason="token lost", request_id=new_id()
            ),
        )
    with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
        await admit()


async def test_expired_certificates_are_refused_on_an_open_channel(tmp_path: Path) -> None:
    async with deployed(tmp_path, certificate_lifetime_h=1) as keyservice:
        store = await keyservice.enrol(BANK, await keyservice.create(BANK))
        bank = keyservice.connect(store)
        keyservice.clock.skew = timedelta(minutes=59)
        await _newest_list(bank)
        keyservice.clock.skew = timedelta(minutes=61)
        with pytest.raises(AuthenticationError, match="CERTIFICATE_EXPIRED"):
            await _newest_list(bank)
        with pytest.raises(AuthenticationError, match="CERTIFICATE_EXPIRED"):
            await Renewer(store, bank).renew_now()


async def test_without_a_fresh_revocation_list_nobody_is_let_in(keyservice: Deployment) -> None:
    bank = await keyservice.member(BANK)
    # Six hours go by at once, before upkeep has had a chance to make the next list.
    keyservice.clock.skew = timedelta(hours=6, minutes=1)
    with pytest.raises(AuthenticationError, match="REVOCATION_LIST_STALE"):
        await _newest_list(bank)


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_ten_minutes_between_the_clocks_do_no_harm(tmp_path: Path, minutes: int) -> None:
    # A second is left for the way: a clock exactly at the edge would be off it when it arrives.
    skew = timedelta(minutes=minutes) - timedelta(seconds=1 if minutes > 0 else 0)
    async with deployed(tmp_path, skew) as keyservice:
        store = await keyservice.enrol(BANK, await keyservice.create(BANK))
        bank = keyservice.connect(store)
        listed = await _newest_list(bank)
        anchors = store.current().anchors
        RevocationList.parse(listed.public_bytes(Encoding.DER), anchors, keyservice.clock() - skew)
        await Renewer(store, bank).renew_now()
        await _newest_list(bank)


async def test_a_service_that_was_off_for_longer_than_its_list_lasts_starts(
    keyservice: Deployment,
) -> None:
    served = await _served_certificate(keyservice)
    await keyservice.stop()
    keyservice.clock.skew = timedelta(hours=30)
    await keyservice.start()
    assert await _served_certificate(keyservice) != served


async def test_upkeep_replaces_list_and_own_certificates_before_they_end(tmp_path: Path) -> None:
    # The interval of upkeep follows from the shortest lifetime: here 0.9 seconds.
    async with deployed(tmp_path, revocation_list_lifetime_h=0.002) as keyservice:
        bank = await keyservice.member(BANK)
        first = await _newest_list(bank)
        served = await _served_certificate(keyservice)
        keyservice.clock.skew = timedelta(hours=13)
        # The store of the own identity is renewed at half-life, and the next handshake shows it.
        await _eventually(lambda: _serves_another(keyservice, served))
        newest = await _newest_list(bank)
        assert newest.last_update_utc - first.last_update_utc > timedelta(hours=12)


async def _eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110  # what is awaited is in another thread
            await asyncio.sleep(0.2)


async def _serves_another(keyservice: Deployment, served: str) -> bool:
    return await _served_certificate(keyservice) != served


async def _drain(stream: AsyncIterator[object]) -> None:
    async for _ in stream:
        pass


async def _served_certificate(keyservice: Deployment) -> str:
    """What the enrolment listener shows in a handshake."""
    return await asyncio.to_thread(
        ssl.get_server_certificate, ("127.0.0.1", keyservice.ports[1]), timeout=5
    )
