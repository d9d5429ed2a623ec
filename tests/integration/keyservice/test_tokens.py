"""People with a token at the key service: what their role may, and not a step more."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from finsecure.keyservice.v1 import certificates_pb2, certificates_pb2_grpc
from finsecure.keyservice.v1 import members_pb2 as members
from finsecure.keyservice.v1 import members_pb2_grpc as members_grpc
from finsecure_crypto.errors import (
    AuthenticationError,
    FinSecureError,
    InvalidArgumentError,
    PermissionDeniedError,
)
from finsecure_keyservice import serving
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.status import from_wire

from tests.support.keyservice_deployment import BANK, Deployment, deployed, new_id
from tests.support.oidc import Provider, settings


async def call(keyservice: Deployment, token: str | None, stub: Any, method: str, request: Any):
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    async with open_anonymous_channel(keyservice.enrol_address, keyservice.root_pem) as channel:
        try:
            return await getattr(stub(channel), method)(request, timeout=10, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise from_wire(error) from error


async def outcome(*arguments: Any) -> FinSecureError | None:
    try:
        await call(*arguments)
    except FinSecureError as error:
        return error
    return None


async def test_each_role_may_what_is_its_own(tmp_path: Path) -> None:
    provider = Provider()
    oidc = settings(provider.write(tmp_path))
    async with deployed(tmp_path, oidc=oidc, limits={"enrolment_calls_per_s": 1000}) as keyservice:
        viewer, operator = (provider.token(roles=role) for role in ("fs-view", "fs-run"))
        service, listing = members_grpc.MemberServiceStub, members.ListMembersRequest()
        for token in (viewer, operator):
            await call(keyservice, token, service, "ListMembers", listing)
        create = members.CreateMemberRequest(member=members.Member(name=BANK), request_id=new_id())
        refused = await outcome(keyservice, viewer, service, "CreateMember", create)
        assert isinstance(refused, PermissionDeniedError)
        assert refused.code == "ROLE_NOT_ALLOWED"
        made = await call(keyservice, operator, service, "CreateMember", create)
        assert made.api_key
        # The same person again: its request ids are its own.
        again = await call(keyservice, operator, service, "CreateMember", create)
        assert again.member == made.member
        # What members with certificates do is not for people with tokens.
        stub = certificates_pb2_grpc.CertificateServiceStub
        asked = certificates_pb2.GetRevocationListRequest()
        refused = await outcome(keyservice, operator, stub, "GetRevocationList", asked)
        assert refused is not None
        assert refused.code == "TOKEN_NOT_ALLOWED"
        renewal = certificates_pb2.RenewCertificatesRequest(tls_csr=b"x", signing_csr=b"x")
        stub = certificates_pb2_grpc.EnrolmentServiceStub
        refused = await outcome(keyservice, operator, stub, "RenewCertificates", renewal)
        assert refused is not None
        assert refused.code == "TOKEN_NOT_ALLOWED"
        # Bad tokens and none are told apart, and neither gets in.
        bad = provider.token(aud="other")
        refused = await outcome(keyservice, bad, service, "ListMembers", listing)
        assert isinstance(refused, AuthenticationError)
        assert refused.code == "TOKEN_AUDIENCE"
        refused = await outcome(keyservice, None, service, "ListMembers", listing)
        assert refused is not None
        assert refused.code == "CERTIFICATE_REQUIRED"
        with pytest.raises(InvalidArgumentError, match="NAME_RESERVED"):
            await keyservice.create("operators/oidc-mallory")


async def test_each_person_has_a_rate_of_its_own(tmp_path: Path) -> None:
    provider = Provider()
    oidc = settings(provider.write(tmp_path))
    limits = {"enrolment_calls_per_s": 1000, "member_calls_per_s": 0.01}
    async with deployed(tmp_path, oidc=oidc, limits=limits) as keyservice:
        codes = []
        for subject in ("erin", "erin", "frank"):
            listing = (members_grpc.MemberServiceStub, "ListMembers", members.ListMembersRequest())
            refused = await outcome(keyservice, provider.token(sub=subject), *listing)
            codes.append(refused and refused.code)
        assert codes == [None, "RATE_EXCEEDED", None]


async def test_what_fails_beside_the_service_keeps_no_refusal_out_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = serving.open_door

    async def fails() -> None:
        raise RuntimeError("the keys are not followed any more")

    monkeypatch.setattr(serving, "open_door", lambda *rules: (opened(*rules)[0], fails))
    provider, copy = Provider(), tmp_path / "audit.jsonl"
    oidc = settings(provider.write(tmp_path))
    async with deployed(tmp_path, oidc=oidc, audit_file=copy) as keyservice:
        create = members.CreateMemberRequest(member=members.Member(name=BANK), request_id=new_id())
        token, service = provider.token(roles="fs-view"), members_grpc.MemberServiceStub
        refused = await outcome(keyservice, token, service, "CreateMember", create)
        assert refused is not None
        assert refused.code == "ROLE_NOT_ALLOWED"
        await keyservice.stop()
        assert "ROLE_NOT_ALLOWED" in copy.read_text()


async def test_without_a_provider_no_token_is_looked_at(keyservice: Deployment) -> None:
    refused = await outcome(
        keyservice,
        Provider().token(roles="fs-run"),
        members_grpc.MemberServiceStub,
        "ListMembers",
        members.ListMembersRequest(),
    )
    assert refused is not None
    assert refused.code == "CERTIFICATE_REQUIRED"
