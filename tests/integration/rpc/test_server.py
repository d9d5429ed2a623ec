"""Starting and stopping: signals, open calls, and a full house."""

import asyncio
import os
import signal

import pytest
from finsecure.aggregation.v1 import participation_pb2, participation_pb2_grpc
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import FinSecureError, UnavailableError
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.connection import Connection
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.policy import Limits, federation_peers
from finsecure_rpc.server import Listener, build_server

from tests.support.pki import TestAuthority

METHOD = "/finsecure.aggregation.v1.ParticipationService/GetUploadStatus"
Status = participation_pb2.GetUploadStatusRequest
Stub = participation_pb2_grpc.ParticipationServiceStub


class Slow(participation_pb2_grpc.ParticipationServiceServicer):
    def __init__(self):
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()

    async def GetUploadStatus(self, request, context):  # noqa: N802
        self.started.set()
        await self.go_on.wait()
        return participation_pb2.GetUploadStatusResponse(committed_bytes=1)


@pytest.fixture
async def slow(tmp_path):
    pki = TestAuthority()
    service = Slow()
    server = build_server(
        [(participation_pb2_grpc.add_ParticipationServiceServicer_to_server, service)],
        {METHOD: frozenset({Role.CLIENT})},
        Authenticator(lambda: pki.anchors, pki, federation_peers("lending.finsecure.internal")),
        [
            Listener(
                "127.0.0.1:0",
                server_credentials(pki.enrol(tmp_path / "server", "aggregator", "main")),
            )
        ],
        Limits(),
        maximum_calls=3,
    )
    store = pki.enrol(tmp_path / "client", "client", "bank-a")
    async with Connection(f"127.0.0.1:{server.ports[0]}", store, Role.AGGREGATOR) as connection:
        yield service, server, connection


def ask(connection):
    method = connection.stub(Stub).GetUploadStatus
    return asyncio.create_task(connection.call(method, Status(round="r"), deadline_s=20))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_open_calls_finish_and_takes_no_new_ones(slow, number):
    service, server, connection = slow
    serving = asyncio.create_task(server.serve(grace_s=10))
    open_call = ask(connection)
    await service.started.wait()
    os.kill(os.getpid(), number)
    await asyncio.sleep(0.3)
    assert not serving.done()
    late = ask(connection)
    await asyncio.sleep(0.3)
    service.go_on.set()
    assert (await open_call).committed_bytes == 1
    async with asyncio.timeout(5):
        await serving
    with pytest.raises(UnavailableError):
        await late


async def test_calls_that_take_longer_than_the_grace_are_cancelled(slow):
    service, server, connection = slow
    await server.start()
    open_call = ask(connection)
    await service.started.wait()
    await server.stop(0.2)
    with pytest.raises(UnavailableError):
        await open_call


async def test_more_calls_than_fit_are_turned_away(slow):
    service, server, connection = slow
    await server.start()
    calls = [ask(connection) for _ in range(6)]
    await service.started.wait()
    await asyncio.sleep(0.5)
    service.go_on.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [result for result in results if isinstance(result, FinSecureError)]
    assert {error.code for error in refused} == {"RPC_RESOURCE_EXHAUSTED"}
    assert len(refused) == 3
    await server.stop(0.2)
