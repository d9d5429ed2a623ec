"""A suspension over the wire: on the next call and on an open stream, and back again."""

import asyncio

import pytest
from finsecure.keyservice.v1 import certificates_pb2 as certificates
from finsecure.keyservice.v1 import certificates_pb2_grpc as certificates_grpc
from finsecure.keyservice.v1 import members_pb2 as members
from finsecure.keyservice.v1 import members_pb2_grpc as members_grpc
from finsecure_crypto.errors import AuthenticationError, PermissionDeniedError

from tests.support.keyservice_deployment import BANK, Deployment, new_id


async def test_a_suspended_member_is_out_at_once_and_comes_back(keyservice: Deployment) -> None:
    bank = await keyservice.member(BANK)
    stub = bank.stub(certificates_grpc.CertificateServiceStub)
    watch = bank.stream(
        stub.WatchRevocationList, certificates.WatchRevocationListRequest(), deadline_s=60
    )
    await anext(watch)
    administer = keyservice.operator.stub(members_grpc.MemberServiceStub)
    request = members.SuspendMemberRequest(name=BANK, reason="why", request_id=new_id())
    suspended = await keyservice.operator.call(administer.SuspendMember, request)
    assert suspended.member.state == members.MEMBER_STATE_SUSPENDED
    assert await keyservice.operator.call(administer.SuspendMember, request) == suspended
    with pytest.raises(AuthenticationError, match="MEMBER_SUSPENDED"):
        await bank.call(stub.GetRevocationList, certificates.GetRevocationListRequest())

    async def drain() -> None:
        async for _ in watch:
            pass

    with pytest.raises(AuthenticationError, match="MEMBER_SUSPENDED"):
        await asyncio.wait_for(drain(), 60)
    back = await keyservice.operator.call(
        administer.ReactivateMember,
        members.ReactivateMemberRequest(name=BANK, request_id=new_id()),
    )
    assert back.member.state == members.MEMBER_STATE_ACTIVE
    await bank.call(stub.GetRevocationList, certificates.GetRevocationListRequest())


async def test_operators_do_not_suspend_security_officers(keyservice: Deployment) -> None:
    await keyservice.officer("carol")
    with pytest.raises(PermissionDeniedError, match="ROLE_NOT_ALLOWED"):
        await keyservice.operator.call(
            keyservice.operator.stub(members_grpc.MemberServiceStub).SuspendMember,
            members.SuspendMemberRequest(name="officers/carol", reason="y", request_id=new_id()),
        )
