"""People with a token at the aggregator: what their role may, and nothing that members do."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from finsecure.aggregation.v1 import (
    models_pb2,
    models_pb2_grpc,
    participation_pb2,
    sums_pb2,
    tasks_pb2,
    tasks_pb2_grpc,
)
from finsecure_aggregator.policy import POLICY, TOKEN_METHODS
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import FinSecureError
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.call import call, stream
from finsecure_rpc.channel import open_anonymous_channel, open_token_channel
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.support.federation import (
    FEDERATION,
    Federation,
    free_port,
    initial_model,
    task_name,
    task_spec,
)
from tests.support.oidc import AUDIENCE, ISSUER, Provider

TARGET = f"aggregator.{FEDERATION}.finsecure.internal"
CONTRACT = (models_pb2, participation_pb2, sums_pb2, tasks_pb2)
RATE = 1000


@dataclass
class Door:
    """An aggregator with a listener for people, and their provider."""

    federation: Federation
    address: str
    provider: Provider
    keys: Path
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    def channel(self, token: str | None) -> grpc.aio.Channel:
        root = self.federation.pki.root.pem
        if token is None:
            channel = open_anonymous_channel(self.address, root, TARGET)
        else:
            channel = open_token_channel(self.address, root, TARGET, SecretBytes(token.encode()))
        self.channels.append(channel)
        return channel


@asynccontextmanager
async def door(folder: Path, *, banks: int = 1, rate: float = RATE) -> AsyncIterator[Door]:
    provider, address = Provider(), f"127.0.0.1:{free_port()}"
    keys = provider.write(folder)
    federation = Federation(folder, banks=banks)
    federation.extra_config = (
        f'operator_listen = "{address}"\noperator_calls_per_s = {rate}\n'
        f'[oidc]\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\njwks_file = "{keys}"\n'
        'leeway_s = 0\nroles = { fs-view = "viewer", fs-run = "operator" }\n'
    )
    async with federation:
        await federation.call(
            federation.tasks.ListTasks,
            tasks_pb2.ListTasksRequest(parent=f"federations/{FEDERATION}"),
        )
        made = Door(federation, address, provider, keys)
        try:
            yield made
        finally:
            for channel in made.channels:
                await channel.close(None)


def _methods() -> Iterator[tuple[str, MethodDescriptor]]:
    for module in CONTRACT:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method


async def _code(channel: grpc.aio.Channel, path: str, method: MethodDescriptor) -> str:
    """Call a method with an empty message; returns the code of the error, or empty."""
    request = GetMessageClass(method.input_type)()
    kind = (
        f"{'stream' if method.client_streaming else 'unary'}_"
        f"{'stream' if method.server_streaming else 'unary'}"
    )
    bound = getattr(channel, kind)(
        path,
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )

    async def one() -> AsyncIterator[Message]:
        yield request

    sent = one() if method.client_streaming else request
    try:
        if method.server_streaming:
            async for _ in stream(bound, sent, deadline_s=10):
                break
        else:
            await call(bound, sent, deadline_s=10)
    except FinSecureError as error:
        return error.code
    return ""


async def test_every_method_lets_in_whom_it_should_and_members_need_a_certificate(
    tmp_path: Path,
) -> None:
    async with door(tmp_path) as made:
        callers = {
            Role.VIEWER: made.channel(made.provider.token(roles="fs-view")),
            Role.OPERATOR: made.channel(made.provider.token(roles=["fs-view", "fs-run"])),
        }
        nobody = made.channel(None)
        without = made.channel(made.provider.token(roles="client"))
        seen = set()
        for path, method in _methods():
            seen.add(path)
            access = POLICY[path]
            assert isinstance(access, frozenset)
            assert await _code(nobody, path, method) == "CERTIFICATE_REQUIRED", path
            for role, channel in callers.items():
                code = await _code(channel, path, method)
                if path not in TOKEN_METHODS:
                    assert code == "TOKEN_NOT_ALLOWED", path
                elif role not in access:
                    assert code == "ROLE_NOT_ALLOWED", path
                else:
                    assert code in ("", "INVALID_MESSAGE", "NAME_MALFORMED"), (path, code)
            expected = "TOKEN_WITHOUT_ROLE" if path in TOKEN_METHODS else "TOKEN_NOT_ALLOWED"
            assert await _code(without, path, method) == expected
        assert seen == POLICY.keys()
        members = {path for path in POLICY if "Participation" in path or "Contribute" in path}
        assert members == POLICY.keys() - TOKEN_METHODS
        # The listener of members shakes no hands with who has only a token.
        token = SecretBytes(made.provider.token().encode())
        root = made.federation.pki.root.pem
        async with open_token_channel(made.federation.address, root, TARGET, token) as channel:
            path, method = next(_methods())
            assert await _code(channel, path, method) in (
                "SERVICE_UNREACHABLE",
                "CONNECTION_REFUSED",
                "CLIENT_UNTRUSTED",
            )


async def test_an_operator_with_a_token_runs_a_task_from_its_creation_to_its_model(
    tmp_path: Path,
) -> None:
    async with door(tmp_path, banks=3) as made:
        federation, spec = made.federation, task_spec(minimum=3)
        channel = made.channel(made.provider.token(roles="fs-run"))
        tasks = tasks_pb2_grpc.TaskServiceStub(channel)
        request = tasks_pb2.CreateTaskRequest(
            task=tasks_pb2.Task(name=task_name("credit"), spec=spec), request_id=str(uuid4())
        )
        created = await call(tasks.CreateTask, request, deadline_s=30)
        assert await call(tasks.CreateTask, request, deadline_s=30) == created
        # The rest of the federation's support acts as the person does.
        federation.models = models_pb2_grpc.ModelServiceStub(channel)
        await federation.upload_model("credit", initial_model(spec))
        federation.start_clients("credit")
        states = [
            answer.task.state
            async for answer in stream(
                tasks.WatchTask,
                tasks_pb2.WatchTaskRequest(name=task_name("credit")),
                deadline_s=60,
            )
        ]
        assert states[-1] == tasks_pb2.TASK_STATE_COMPLETED
        viewer = models_pb2_grpc.ModelServiceStub(
            made.channel(made.provider.token(roles="fs-view"))
        )
        name = f"{task_name('credit')}/models/1"
        model = (
            await call(viewer.GetModel, models_pb2.GetModelRequest(name=name), deadline_s=30)
        ).model
        content = b"".join(
            [
                answer.chunk.content
                async for answer in stream(
                    viewer.DownloadModel,
                    models_pb2.DownloadModelRequest(name=name),
                    deadline_s=30,
                )
            ]
        )
        assert hashlib.sha256(content).digest() == model.sha256
        refused = models_pb2.RecheckModelRequest(name=name)
        with pytest.raises(FinSecureError, match="ROLE_NOT_ALLOWED"):
            await call(viewer.RecheckModel, refused, deadline_s=30)


@pytest.mark.parametrize("end", ["the token expires", "the provider withdraws its key"])
async def test_an_open_stream_ends_with_its_token(tmp_path: Path, end: str) -> None:
    async with door(tmp_path) as made:
        await made.federation.create_task("credit", task_spec(minimum=3))
        changed: dict[str, Any] = {"roles": "fs-view"}
        if end == "the token expires":
            changed["exp"] = made.provider.claims()["iat"] + 5
        tasks = tasks_pb2_grpc.TaskServiceStub(made.channel(made.provider.token(**changed)))
        request = tasks_pb2.WatchTaskRequest(name=task_name("credit"))
        answers = stream(tasks.WatchTask, request, deadline_s=60)
        await anext(answers)
        if end == "the provider withdraws its key":
            made.keys.write_bytes(Provider().key_set().replace(b'"one"', b'"two"'))
        code = "TOKEN_EXPIRED" if end == "the token expires" else "TOKEN_KEY_UNKNOWN"
        with pytest.raises(FinSecureError, match=code):
            await asyncio.wait_for(_drained(answers), 30)
        with pytest.raises(FinSecureError, match=code):
            await anext(stream(tasks.WatchTask, request, deadline_s=10))


async def _drained(answers: AsyncIterator[Any]) -> None:
    async for _ in answers:
        pass


async def test_one_address_cannot_flood_and_members_do_not_notice(tmp_path: Path) -> None:
    async with door(tmp_path, rate=0.5) as made:
        path, method = next(item for item in _methods() if item[0].endswith("/ListTasks"))
        channel = made.channel(made.provider.token(aud="another"))
        codes = [await _code(channel, path, method) for _ in range(5)]
        assert codes[0] == "TOKEN_AUDIENCE"
        assert codes[-1] == "RATE_EXCEEDED"
        await made.federation.call(
            made.federation.tasks.ListTasks,
            tasks_pb2.ListTasksRequest(parent=f"federations/{FEDERATION}"),
        )
