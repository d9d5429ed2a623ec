"""Each role calls each method of the aggregator: what is not its own is refused before all else."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from finsecure.aggregation.v1 import (
    models_pb2,
    participation_pb2,
    sums_pb2,
    tasks_pb2,
)
from finsecure_aggregator.policy import POLICY
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import FinSecureError
from finsecure_rpc.call import call, stream
from finsecure_rpc.connection import Connection
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.support.federation import FEDERATION, Federation

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for module in (models_pb2, participation_pb2, sums_pb2, tasks_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


async def _code(channel: grpc.aio.Channel, path: str, method: MethodDescriptor) -> str:
    """The reason code that an empty request is answered with, or nothing."""
    request = GetMessageClass(method.input_type)

    async def one() -> AsyncIterator[Message]:
        yield request()

    kind = ("stream" if method.client_streaming else "unary") + (
        "_stream" if method.server_streaming else "_unary"
    )
    callable_ = getattr(channel, kind)(
        path,
        request_serializer=request.SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    sent = one() if method.client_streaming else request()
    try:
        if method.server_streaming:
            responses = stream(callable_, sent, deadline_s=30, wait_for_ready=True)
            await anext(responses)
            await responses.aclose()
        else:
            await call(callable_, sent, deadline_s=30, wait_for_ready=True)
    except FinSecureError as error:
        return error.code
    return ""


async def test_each_role_may_call_its_own_methods_and_no_other(tmp_path: Path) -> None:
    assert METHODS.keys() == POLICY.keys()
    async with Federation(tmp_path) as federation:
        for role in Role:
            own = federation.pki.enrol(tmp_path / f"as-{role.value}", role, "somebody")
            async with Connection(
                federation.address, own, Role.AGGREGATOR, federation=FEDERATION
            ) as connection:
                for path, method in METHODS.items():
                    access = POLICY[path]
                    assert isinstance(access, frozenset)
                    code = "UPLOAD_INTERRUPTED"  # a refusal may come while something is sent
                    while code == "UPLOAD_INTERRUPTED":
                        code = await _code(connection.channel(), path, method)
                    refused = code == "ROLE_NOT_ALLOWED"
                    assert refused == (role not in access), f"{role} at {path}: {code}"
