"""Each role calls each method of the service: what is not its own is refused, and tells nothing."""

from collections.abc import Iterator

import grpc
import pytest
from finsecure.keyservice.v1 import (
    approvals_pb2,
    audit_pb2,
    authorities_pb2,
    certificates_pb2,
    encryption_keys_pb2,
    envelope_pb2,
    join_tokens_pb2,
    keys_pb2,
    members_pb2,
    model_signing_pb2,
    seal_pb2,
)
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import AuthenticationError, FinSecureError, PermissionDeniedError
from finsecure_keyservice.policy import POLICY
from finsecure_rpc.call import call, stream
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.identity_store import IdentityStore
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.support.keyservice_deployment import BANK, LENDING, Deployment, new_id

CALLERS = {
    Role.CLIENT: BANK,
    Role.AGGREGATOR: f"{LENDING}/aggregators/main",
    Role.TRUSTEE: f"{LENDING}/trustees/north",
    Role.VIEWER: "viewers/eve",
    Role.OPERATOR: "operators/bob",
}


def _methods() -> Iterator[tuple[str, MethodDescriptor]]:
    for module in (
        *(approvals_pb2, audit_pb2, authorities_pb2, certificates_pb2, encryption_keys_pb2),
        *(envelope_pb2, join_tokens_pb2, keys_pb2, members_pb2, model_signing_pb2, seal_pb2),
    ):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method


def _request(method: MethodDescriptor, name: str) -> Message:
    """A sound request about something, so that only the permission can be at fault."""
    request = GetMessageClass(method.input_type)()
    fields = method.input_type.fields_by_name
    if "name" in fields:
        request.name = name  # type: ignore[attr-defined]
    if "request_id" in fields:
        request.request_id = new_id()  # type: ignore[attr-defined]
    return request


async def _outcome(
    channel: grpc.aio.Channel, path: str, method: MethodDescriptor, name: str = ""
) -> FinSecureError | None:
    """Call a method and return the error, if there is one."""
    codec = {
        "request_serializer": type(_request(method, "")).SerializeToString,
        "response_deserializer": GetMessageClass(method.output_type).FromString,
    }
    try:
        if method.server_streaming:
            responses = stream(
                channel.unary_stream(path, **codec), _request(method, name), deadline_s=10
            )
            await anext(responses)
            await responses.aclose()  # type: ignore[attr-defined]
        else:
            await call(channel.unary_unary(path, **codec), _request(method, name), deadline_s=10)
    except FinSecureError as error:
        return error
    return None


async def test_each_role_may_call_its_own_methods_and_no_other(keyservice: Deployment) -> None:
    connections = {role: await keyservice.member(name) for role, name in CALLERS.items()}
    connections[Role.OFFICER] = await keyservice.officer("carol")
    own = IdentityStore(keyservice.configuration.state_dir / "identity")
    connections[Role.KEYSERVICE] = keyservice.connect(own)
    refused = 0
    for path, method in _methods():
        access = POLICY[path]
        for role, connection in connections.items():
            error = await _outcome(connection.channel(), path, method)
            denied = isinstance(error, PermissionDeniedError)
            if isinstance(access, frozenset) and role not in access:
                assert denied, f"{role} was let into {path}"
                assert error is not None
                assert error.code == "ROLE_NOT_ALLOWED"
                refused += 1
            else:
                assert not denied, f"{role} was not let into {path}"
    assert set(connections) == set(Role)
    assert refused == sum(
        len(set(Role) - access) for access in POLICY.values() if isinstance(access, frozenset)
    )


async def test_nobody_without_a_certificate_gets_past_enrolment(keyservice: Deployment) -> None:
    async with open_anonymous_channel(keyservice.enrol_address, keyservice.root_pem) as channel:
        for path, method in _methods():
            error = await _outcome(channel, path, method)
            required = isinstance(error, AuthenticationError) and (
                error.code == "CERTIFICATE_REQUIRED"
            )
            assert required == isinstance(POLICY[path], frozenset), path


@pytest.mark.parametrize("caller", [Role.CLIENT, Role.AGGREGATOR])
async def test_who_may_not_ask_learns_nothing_of_what_exists(
    keyservice: Deployment, caller: Role
) -> None:
    connection = await keyservice.member(CALLERS[caller])
    for path, method in _methods():
        access = POLICY[path]
        allowed = not isinstance(access, frozenset) or caller in access
        if allowed or "name" not in method.input_type.fields_by_name:
            continue
        answers = {
            str(await _outcome(connection.channel(), path, method, name))
            for name in (LENDING, "federations/nowhere", BANK, f"{LENDING}/clients/no-bank", "?")
        }
        assert len(answers) == 1, path


async def test_reflection_is_off_and_unknown_methods_are_unimplemented(
    keyservice: Deployment,
) -> None:
    for path in (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/finsecure.keyservice.v1.MemberService/Nothing",
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await keyservice.operator.channel().unary_unary(path)(b"", timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
