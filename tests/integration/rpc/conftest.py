"""A toy server on loopback: generated services with handlers that only show the plumbing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from finsecure.aggregation.v1 import (
    models_pb2,
    models_pb2_grpc,
    participation_pb2,
    participation_pb2_grpc,
)
from finsecure.keyservice.v1 import certificates_pb2, certificates_pb2_grpc
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import ConfigurationError, NotFoundError
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.connection import Connection
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.peer import current_peer
from finsecure_rpc.policy import ANYONE, Limits, Policy, federation_peers
from finsecure_rpc.server import Listener, RpcServer, build_server

from tests.support.pki import TestAuthority

PARTICIPATION = "/finsecure.aggregation.v1.ParticipationService/"
MODELS = "/finsecure.aggregation.v1.ModelService/"
CLIENT = frozenset({Role.CLIENT})

POLICY: Policy = {
    PARTICIPATION + "Watch": CLIENT,
    PARTICIPATION + "GetUploadStatus": CLIENT,
    PARTICIPATION + "SubmitInput": CLIENT,
    PARTICIPATION + "DeclineRound": CLIENT,
    MODELS + "GetModel": frozenset({Role.CLIENT, Role.OPERATOR}),
    MODELS + "ListModels": frozenset({Role.OPERATOR}),
    MODELS + "DownloadModel": CLIENT,
    "/finsecure.keyservice.v1.EnrolmentService/GetTrustBundle": ANYONE,
}


class Participation(participation_pb2_grpc.ParticipationServiceServicer):
    """Watch sends one instruction at once and then nothing."""

    def __init__(self) -> None:
        self.open = 0
        self.uploads: list[int] = []
        self.received = asyncio.Event()

    async def Watch(self, request, context):  # noqa: N802
        self.open += 1
        try:
            yield participation_pb2.WatchResponse(round=str(current_peer().spiffe_id))
            await asyncio.Event().wait()
        finally:
            self.open -= 1

    async def GetUploadStatus(self, request, context):  # noqa: N802
        if request.round == "missing":
            raise NotFoundError("ROUND_NOT_FOUND", "There is no such round.", culprit="bank-z")
        if request.round == "broken":
            raise RuntimeError("the password is hunter2")
        if request.round == "misconfigured":
            raise ConfigurationError("IDENTITY_DAMAGED", "The file /etc/secret/place is bad.")
        if request.round == "slow":
            await asyncio.sleep(30)
        return participation_pb2.GetUploadStatusResponse(committed_bytes=7)

    async def SubmitInput(self, request_iterator, context):  # noqa: N802
        total = 0
        async for request in request_iterator:
            total += len(request.chunk.content)
            self.uploads.append(total)
            self.received.set()
        return participation_pb2.SubmitInputResponse(committed_bytes=total)


class Models(models_pb2_grpc.ModelServiceServicer):
    async def GetModel(self, request, context):  # noqa: N802
        return models_pb2.GetModelResponse(model=models_pb2.Model(name=request.name))

    async def DownloadModel(self, request, context):  # noqa: N802
        for offset in range(0, 1 << 40, 1 << 20):
            chunk = models_pb2.Chunk(offset=offset, content=bytes(1 << 20))
            yield models_pb2.DownloadModelResponse(chunk=chunk)


class Enrolment(certificates_pb2_grpc.EnrolmentServiceServicer):
    async def GetTrustBundle(self, request, context):  # noqa: N802
        assert current_peer() is None or current_peer().role is not None
        return certificates_pb2.GetTrustBundleResponse()


@dataclass
class Toy:
    pki: TestAuthority
    folder: Path
    server: RpcServer
    participation: Participation
    server_store: IdentityStore
    connections: list[Connection] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.ports[0]}"

    @property
    def anonymous_address(self) -> str:
        return f"127.0.0.1:{self.server.ports[1]}"

    def store(self, role: str = "client", id_: str = "bank-a", **options) -> IdentityStore:
        name = f"{role}-{id_}-{options.get('federation', 'lending')}"
        return self.pki.enrol(self.folder / name, role, id_, **options)

    def connect(self, store: IdentityStore | None = None, on_send=None) -> Connection:
        connection = Connection(
            self.address,
            store or self.store(),
            Role.AGGREGATOR,
            federation="lending",
            on_send=on_send,
        )
        self.connections.append(connection)
        return connection


@asynccontextmanager
async def running_toy(
    folder: Path, limits: Limits | None = None, *, reflection: bool = False
) -> AsyncIterator[Toy]:
    pki = TestAuthority()
    store = pki.enrol(folder / "server", "aggregator", "main")
    participation = Participation()
    server = build_server(
        [
            (
                participation_pb2_grpc.add_ParticipationServiceServicer_to_server,
                participation,
            ),
            (models_pb2_grpc.add_ModelServiceServicer_to_server, Models()),
            (certificates_pb2_grpc.add_EnrolmentServiceServicer_to_server, Enrolment()),
        ],
        POLICY,
        Authenticator(lambda: pki.anchors, pki, federation_peers("lending.finsecure.internal")),
        [
            Listener("127.0.0.1:0", server_credentials(store)),
            Listener("127.0.0.1:0", server_credentials(store, client_certificates=False)),
        ],
        limits
        or Limits(
            deadlines={
                PARTICIPATION + "Watch": 3600.0,
                MODELS + "DownloadModel": 3600.0,
                PARTICIPATION + "SubmitInput": 600.0,
            },
            recheck_s=0.1,
        ),
        reflection=reflection,
    )
    await server.start()
    toy = Toy(pki, folder, server, participation, store)
    try:
        yield toy
    finally:
        for connection in toy.connections:
            await connection.close()
        await server.stop(0.2)


@pytest.fixture
async def toy(tmp_path: Path) -> AsyncIterator[Toy]:
    async with running_toy(tmp_path) as running:
        yield running


@pytest.fixture
def toy_with(tmp_path: Path) -> Callable:
    def make(**options):
        return running_toy(tmp_path, **options)

    return make


@pytest.fixture
async def anonymous(toy: Toy) -> AsyncIterator[grpc.aio.Channel]:
    target = "aggregator.lending.finsecure.internal"
    async with open_anonymous_channel(toy.anonymous_address, toy.pki.root.pem, target) as channel:
        yield channel
