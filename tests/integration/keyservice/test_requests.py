"""Request ids, pages and errors over the wire."""

import asyncio
from itertools import chain
from typing import Any

import pytest
from finsecure.keyservice.v1 import certificates_pb2 as certificates
from finsecure.keyservice.v1 import certificates_pb2_grpc as certificates_grpc
from finsecure.keyservice.v1 import members_pb2 as members
from finsecure.keyservice.v1 import members_pb2_grpc as members_grpc
from finsecure_crypto.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    StateError,
)

from tests.support.keyservice_deployment import BANK, LENDING, Deployment, new_id


def _member_request(name: str, display_name: str = "") -> members.CreateMemberRequest:
    return members.CreateMemberRequest(
        member=members.Member(name=name, display_name=display_name), request_id=new_id()
    )


async def test_a_repeated_request_gets_the_first_answer_without_the_key(
    keyservice: Deployment,
) -> None:
    operator = keyservice.operator
    create = operator.stub(members_grpc.MemberServiceStub).CreateMember
    request = _member_request(BANK, "Bank 1")
    answers = await asyncio.gather(*(operator.call(create, request) for _ in range(4)))
    keys = [answer.api_key for answer in answers if answer.api_key]
    assert len(keys) == 1
    assert {answer.member.display_name for answer in answers} == {"Bank 1"}
    await keyservice.enrol(BANK, keys[0])
    request.member.display_name = "Bank 2"
    with pytest.raises(ConflictError, match="REQUEST_ID_CONFLICT"):
        await operator.call(create, request)


async def test_an_id_that_served_another_method_is_a_conflict(keyservice: Deployment) -> None:
    operator = keyservice.operator
    request = _member_request(BANK)
    await operator.call(operator.stub(members_grpc.MemberServiceStub).CreateMember, request)
    federation = members.CreateFederationRequest(
        federation=members.Federation(name="federations/cards"), request_id=request.request_id
    )
    create = operator.stub(members_grpc.FederationServiceStub).CreateFederation
    with pytest.raises(ConflictError, match="REQUEST_ID_CONFLICT"):
        await operator.call(create, federation)
    # Another operator's ids are its own.
    bob = await keyservice.member("operators/bob")
    answer = await bob.call(
        bob.stub(members_grpc.FederationServiceStub).CreateFederation, federation
    )
    assert answer.federation.trust_domain == "cards.finsecure.test"


async def test_repeating_issue_and_revoke_changes_nothing_more(keyservice: Deployment) -> None:
    operator = keyservice.operator
    stub = operator.stub(members_grpc.MemberServiceStub)
    await keyservice.create(BANK)
    issue = members.IssueApiKeyRequest(name=BANK, request_id=new_id())
    first = await operator.call(stub.IssueApiKey, issue)
    assert (await operator.call(stub.IssueApiKey, issue)).api_key == ""
    await keyservice.enrol(BANK, first.api_key)  # the repeated call has not voided it
    revoke = members.RevokeMemberRequest(name=BANK, reason="left", request_id=new_id())
    answer = await operator.call(stub.RevokeMember, revoke)
    assert await operator.call(stub.RevokeMember, revoke) == answer
    revoke.request_id = new_id()
    with pytest.raises(StateError, match="MEMBER_REVOKED"):
        await operator.call(stub.RevokeMember, revoke)


async def test_a_refused_request_may_be_repeated_when_the_reason_is_gone(
    keyservice: Deployment,
) -> None:
    operator = keyservice.operator
    request = _member_request("federations/cards/clients/bank-1")
    create = operator.stub(members_grpc.MemberServiceStub).CreateMember
    with pytest.raises(NotFoundError, match="FEDERATION_NOT_FOUND"):
        await operator.call(create, request)
    await operator.call(
        operator.stub(members_grpc.FederationServiceStub).CreateFederation,
        members.CreateFederationRequest(
            federation=members.Federation(name="federations/cards"), request_id=new_id()
        ),
    )
    assert (await operator.call(create, request)).api_key


async def _all_pages(operator: Any, method: Any, request: Any, field: str) -> list[list[str]]:
    pages = []
    while True:
        response = await operator.call(method, request)
        pages.append([item.name for item in getattr(response, field)])
        if not response.next_page_token:
            return pages
        request.page_token = response.next_page_token


async def test_lists_come_in_pages_and_in_order(keyservice: Deployment) -> None:
    operator = keyservice.operator
    stub = operator.stub(members_grpc.MemberServiceStub)
    names = [f"{LENDING}/clients/bank-{number:02}" for number in range(5)]
    for name in reversed(names):
        await keyservice.create(name)
    await keyservice.create(f"{LENDING}/aggregators/main")
    expected = [f"{LENDING}/aggregators/main", *names]
    for size, lengths in ((2, [2, 2, 2]), (4, [4, 2]), (6, [6]), (0, [6])):
        pages = await _all_pages(
            operator,
            stub.ListMembers,
            members.ListMembersRequest(parent=LENDING, page_size=size),
            "members",
        )
        assert [len(page) for page in pages] == lengths
        assert list(chain.from_iterable(pages)) == expected
    (operators,) = await _all_pages(
        operator, stub.ListMembers, members.ListMembersRequest(), "members"
    )
    assert operators == ["operators/alice"]
    federations = operator.stub(members_grpc.FederationServiceStub)
    for name in ("federations/cards", "federations/auto"):
        request = members.CreateFederationRequest(
            federation=members.Federation(name=name), request_id=new_id()
        )
        await operator.call(federations.CreateFederation, request)
    pages = await _all_pages(
        operator,
        federations.ListFederations,
        members.ListFederationsRequest(page_size=2),
        "federations",
    )
    assert pages == [["federations/auto", "federations/cards"], [LENDING]]


async def test_certificates_are_listed_newest_first(keyservice: Deployment) -> None:
    operator = keyservice.operator
    stub = operator.stub(certificates_grpc.CertificateServiceStub)
    for name in (BANK, f"{LENDING}/clients/bank-2"):
        await keyservice.enrol(name, await keyservice.create(name))
    pages = await _all_pages(
        operator,
        stub.ListCertificates,
        certificates.ListCertificatesRequest(page_size=3),
        "certificates",
    )
    # The key service's own two, alice's two, and two for each bank.
    assert [len(page) for page in pages] == [3, 3, 2]
    everything = list(chain.from_iterable(pages))
    assert len(set(everything)) == 8
    response = await operator.call(
        stub.ListCertificates, certificates.ListCertificatesRequest(member=BANK)
    )
    assert [item.name for item in response.certificates] == everything[2:4]
    last = await operator.call(
        stub.ListCertificates, certificates.ListCertificatesRequest(member="keyservice/main")
    )
    assert [item.name for item in last.certificates] == everything[-2:]


async def test_bad_page_tokens_and_sizes_are_refused(keyservice: Deployment) -> None:
    operator = keyservice.operator
    stub = operator.stub(members_grpc.MemberServiceStub)
    for number in range(2):
        await keyservice.create(f"{LENDING}/clients/bank-{number}")
    page = await operator.call(
        stub.ListMembers, members.ListMembersRequest(parent=LENDING, page_size=1)
    )
    for token in ("x", "A" * 512, page.next_page_token[:-2]):
        with pytest.raises(InvalidArgumentError, match="PAGE_TOKEN_INVALID"):
            await operator.call(
                stub.ListMembers, members.ListMembersRequest(parent=LENDING, page_token=token)
            )
    with pytest.raises(InvalidArgumentError, match="PAGE_TOKEN_INVALID"):
        await operator.call(
            stub.ListMembers, members.ListMembersRequest(page_token=page.next_page_token)
        )
    with pytest.raises(InvalidArgumentError, match="INVALID_MESSAGE"):
        await operator.call(stub.ListMembers, members.ListMembersRequest(page_size=1001))


@pytest.mark.parametrize(
    "name",
    ["clients/bank-1", "federations/Lending/clients/bank-1", f"{BANK}/..", "operators/a\x00b"],
)
async def test_names_with_tricks_are_refused(keyservice: Deployment, name: str) -> None:
    operator = keyservice.operator
    stub = operator.stub(members_grpc.MemberServiceStub)
    with pytest.raises(InvalidArgumentError, match="INVALID_MESSAGE"):
        await operator.call(stub.CreateMember, _member_request(name))
    with pytest.raises(InvalidArgumentError, match="NAME_MALFORMED"):
        await operator.call(stub.GetMember, members.GetMemberRequest(name=name))


async def test_what_does_not_exist_is_named(keyservice: Deployment) -> None:
    operator = keyservice.operator
    stub = operator.stub(members_grpc.MemberServiceStub)
    with pytest.raises(NotFoundError, match="MEMBER_NOT_FOUND"):
        await operator.call(stub.GetMember, members.GetMemberRequest(name=BANK))
    with pytest.raises(NotFoundError, match="FEDERATION_NOT_FOUND"):
        await operator.call(stub.ListMembers, members.ListMembersRequest(parent="federations/xy"))
    revoke = operator.stub(certificates_grpc.CertificateServiceStub).RevokeCertificate
    request = certificates.RevokeCertificateRequest(
        name="certificates/abc", reason="x", request_id=new_id()
    )
    with pytest.raises(NotFoundError, match="CERTIFICATE_NOT_FOUND"):
        await operator.call(revoke, request)
    request.name = f"certificates/{2**200:x}"
    with pytest.raises(InvalidArgumentError, match="INVALID_MESSAGE"):
        await operator.call(revoke, request)
