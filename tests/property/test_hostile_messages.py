"""Whatever a member with a good certificate sends to any method, it gets a named refusal in time.

Never INTERNAL, never a hang, never a server that is gone: the servers run as they are shipped, the
rounds of five tasks are held open, one in each phase, and the caller was invited to all of them.
"""

import asyncio
import hashlib
import threading
import zlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from finsecure.aggregation.v1 import models_pb2, participation_pb2, tasks_pb2
from finsecure.keyservice.v1 import certificates_pb2, join_tokens_pb2, members_pb2
from finsecure_aggregator.policy import POLICY as AGGREGATOR_POLICY
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import FinSecureError, InternalError, UnavailableError
from finsecure_keyservice.policy import POLICY as KEYSERVICE_POLICY
from finsecure_rpc.connection import Connection
from finsecure_rpc.policy import ANYONE, Policy
from finsecure_rpc.requests import new_keys
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.federation import PHASES, Federation, initial_model, task_name, task_spec
from tests.support.hostile import Hostile
from tests.support.keyservice_deployment import BANK, LENDING, Deployment, deployed

T = TypeVar("T")
CALLER = "bank-0"
HELD = {phase: f"held-{phase.replace('_', '-')}" for phase in PHASES}
AGGREGATION = (tasks_pb2, models_pb2, participation_pb2)
KEYSERVICE = (members_pb2, join_tokens_pb2, certificates_pb2)
POLICIES: dict[str, Policy] = {"aggregation": AGGREGATOR_POLICY, "keyservice": KEYSERVICE_POLICY}
CALL_S = 10.0
LISTEN_S = 0.2


def methods(modules: tuple[Any, ...]) -> list[MethodDescriptor]:
    return [
        method
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


class Servers:
    """Both servers, on an event loop of their own, and a connection of each role."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        self.federation: Federation
        self.keyservice: Deployment
        self.callers: dict[str, dict[Role, Connection]] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def start(self) -> None:
        for name in ("aggregation", "keyservice"):
            (self._folder / name).mkdir()
        await self._start_keyservice()
        await self._start_aggregator()

    async def _start_keyservice(self) -> None:
        self.keyservice = await self._stack.enter_async_context(
            deployed(self._folder / "keyservice")
        )
        self.callers["keyservice"] = {
            Role.OPERATOR: self.keyservice.operator,
            Role.CLIENT: await self.keyservice.member(f"{LENDING}/clients/{CALLER}"),
            Role.AGGREGATOR: await self.keyservice.member(f"{LENDING}/aggregators/main"),
        }
        await self.keyservice.create(BANK)

    async def _start_aggregator(self) -> None:
        self.federation = federation = await self._stack.enter_async_context(
            Federation(self._folder / "aggregation")
        )
        names = tuple(task_name(task) for task in HELD.values())
        for bank in federation.banks:
            client = federation.client(bank, "credit")
            client.tasks = names
            client.answer = _held(client.answer)  # type: ignore[method-assign]
            federation.running[bank] = asyncio.create_task(client.run())
        spec = task_spec(rounds=1000, deadline_s=3600)
        for task in HELD.values():
            await federation.create_task(task, spec)
        async with asyncio.timeout(30):
            for phase, task in HELD.items():
                while (await self._phase(task)) != phase:  # noqa: ASYNC110  # nothing tells
                    await asyncio.sleep(0.1)
        store = federation.pki.enrol(self._folder / "peer", Role.AGGREGATOR, "second")
        # Not the connection of the client that helped to hold the rounds: a newer Watch ends that.
        caller = federation.clients[CALLER].store
        self.callers["aggregation"] = {
            Role.OPERATOR: federation.operator,
            Role.CLIENT: Connection(federation.address, caller, Role.AGGREGATOR),
            Role.AGGREGATOR: Connection(federation.address, store, Role.AGGREGATOR),
        }
        for role in (Role.CLIENT, Role.AGGREGATOR):
            self._stack.push_async_callback(self.callers["aggregation"][role].close)

    async def _phase(self, task: str) -> str:
        rounds = await self.federation.history(task)
        if not rounds:
            return ""
        name: str = tasks_pb2.RoundState.Name(rounds[-1].state)
        return name.removeprefix("ROUND_STATE_").lower()

    async def check_alive(self) -> None:
        """The servers answer, and the held rounds are where they were."""
        for phase, task in HELD.items():
            assert await self._phase(task) == phase
        stub = self.keyservice.operator.channel().unary_unary(
            "/finsecure.keyservice.v1.FederationService/ListFederations",
            members_pb2.ListFederationsRequest.SerializeToString,
            members_pb2.ListFederationsResponse.FromString,
        )
        await stub(members_pb2.ListFederationsRequest(), timeout=CALL_S)
        assert "Traceback" not in self.federation.log.read_text()

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


def _held(answer: Callable[..., Any]) -> Callable[..., Any]:
    async def selective(kind: str, item: participation_pb2.WatchResponse) -> None:
        if f"/{HELD[kind]}/" not in item.round:
            await answer(kind, item)

    return selective


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("hostile"))
    try:
        made.run(made.start())
        yield made
    finally:
        made.close()


def _words() -> list[str]:
    held = [task_name(task) for task in HELD.values()]
    return [
        *held,
        *(f"{task}/rounds/1-1" for task in held),
        *(f"{task}/models/{version}" for task in held for version in ("0", "latest", "7")),
        f"{held[0]}/rounds/0-1",
        f"{held[0]}/rounds/999999-1",
        task_name("nowhere"),
        task_name("fuzz"),
        "federations/lending",
        "federations/other",
        "federations/other/tasks/credit",
        CALLER,
        "bank-1",
        BANK,
        f"{LENDING}/clients/nobody",
        "operators/bob",
        "certificates/1f",
        str(uuid4()),
        "model:build",
        "POLICY",
    ]


def _good() -> dict[str, list[Message]]:
    """A good message, or what comes near to one, of each type of request."""
    rounds = [f"{task_name(task)}/rounds/1-1" for task in HELD.values()]
    keys = new_keys()
    piece = bytes(range(64))
    chunk = models_pb2.Chunk(offset=0, content=piece, crc32=zlib.crc32(piece))
    spec = task_spec(standardise=True, sparse=(0.1, 0.1), minimum=5, maximum=50)
    model = initial_model(spec)
    share = bytes(36)
    header = participation_pb2.InputHeader(
        round=rounds[2], size_bytes=336, sha256=hashlib.sha256(piece).digest(), signature=bytes(64)
    )
    advertisement = participation_pb2.KeyAdvertisement(
        client=CALLER,
        channel_key=b"\x09" * 32,
        mask_key=b"\x08" * 32,
        signature=bytes(64),
        certificate=b"0",
    )
    request_id = str(uuid4())
    member = members_pb2.Member(name=f"{LENDING}/clients/bank-new")
    good: list[Message] = [
        tasks_pb2.CreateTaskRequest(
            task=tasks_pb2.Task(name=task_name("fuzz"), spec=spec), request_id=request_id
        ),
        tasks_pb2.CreateTaskRequest(
            task=tasks_pb2.Task(name=task_name("fuzz-2"), spec=task_spec()), request_id=request_id
        ),
        models_pb2.UploadInitialModelRequest(
            upload=models_pb2.ModelUpload(
                task=task_name(HELD["advertise_keys"]), size_bytes=len(model), sha256=bytes(32)
            )
        ),
        models_pb2.UploadInitialModelRequest(chunk=chunk),
        participation_pb2.SubmitInputRequest(header=header),
        participation_pb2.SubmitInputRequest(chunk=chunk),
        participation_pb2.AdvertiseKeysRequest(round=rounds[0], advertisement=advertisement),
        participation_pb2.ShareKeysRequest(
            round=rounds[1],
            ciphertexts=bytes(4 * 108),
            self_mask_commitment=bytes(32),
            signature=bytes(64),
        ),
        participation_pb2.ConfirmSurvivorsRequest(round=rounds[3], signature=bytes(64)),
        participation_pb2.RevealSharesRequest(
            round=rounds[4], self_mask_shares=share, mask_key_shares=share, unreadable=b"\x03"
        ),
        certificates_pb2.EnrolRequest(
            api_key=f"fs_{'0' * 16}_{'A' * 43}_00000000",
            tls_csr=keys.tls_csr,
            signing_csr=keys.signing_csr,
        ),
        certificates_pb2.JoinRequest(
            join_token=f"fsj_{'0' * 16}_{'A' * 43}_00000000",
            member_id="branch-1",
            tls_csr=keys.tls_csr,
            signing_csr=keys.signing_csr,
        ),
        certificates_pb2.RenewCertificatesRequest(
            tls_csr=keys.tls_csr, signing_csr=keys.signing_csr
        ),
        members_pb2.CreateMemberRequest(member=member, request_id=request_id),
        join_tokens_pb2.CreateJoinTokenRequest(
            parent=LENDING,
            role=members_pb2.MEMBER_ROLE_CLIENT,
            id_prefix="branch-",
            maximum_uses=3,
            lifetime=Duration(seconds=3600),
            request_id=request_id,
        ),
        join_tokens_pb2.RevokeJoinTokenRequest(
            name=f"{LENDING}/joinTokens/{'0' * 16}", reason="leak", request_id=request_id
        ),
        members_pb2.CreateFederationRequest(
            federation=members_pb2.Federation(name="federations/cards"), request_id=request_id
        ),
        members_pb2.IssueApiKeyRequest(name=BANK, request_id=request_id),
        members_pb2.RevokeMemberRequest(name=BANK, reason="left", request_id=request_id),
        certificates_pb2.RevokeCertificateRequest(
            name="certificates/1f", reason="lost", request_id=request_id
        ),
    ]
    found: dict[str, list[Message]] = {}
    for message in good:
        found.setdefault(message.DESCRIPTOR.name, []).append(message)
    return found


HOSTILE, GOOD = Hostile(_words()), _good()
SPARING = Hostile([word for word in _words() if "held" not in word])


async def send(connection: Connection, method: MethodDescriptor, requests: list[Message]) -> None:
    """Send a call and see that it ends with an answer or a refusal that has a name."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    channel = connection.channel()
    kind = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
    }[method.client_streaming, method.server_streaming]
    call = kind(
        path,
        lambda message: message.SerializeToString(),
        GetMessageClass(method.output_type).FromString,
    )
    try:
        if method.server_streaming:
            await _listen(connection, call, requests[0])
        elif method.client_streaming:
            await connection.call(call, iter(requests), deadline_s=CALL_S)
        else:
            await connection.call(call, requests[0], deadline_s=CALL_S)
    except InternalError as error:
        pytest.fail(f"{path} failed: {error}")
    except UnavailableError as error:
        if method.client_streaming and error.code == "UPLOAD_INTERRUPTED":
            return  # refused while more was on its way; gRPC then loses the reason
        pytest.fail(f"{path} hangs or is gone: {error}")
    except FinSecureError:
        pass  # a refusal; which one is for each rule's own test


async def _listen(connection: Connection, call: Any, request: Message) -> None:
    """Read a stream for a moment; that it goes on is fine."""
    try:
        async with asyncio.timeout(LISTEN_S):
            async for _ in connection.stream(call, request, deadline_s=CALL_S):
                pass
    except TimeoutError:
        pass


def attack(servers: Servers, server: str, method: MethodDescriptor, examples: int) -> None:
    # The rounds that are held open shall outlast even an operator.
    hostile = SPARING if method.name == "CancelTask" else HOSTILE
    message = hostile.any_of(method.input_type, GOOD)
    allowed = POLICIES[server][f"/{method.containing_service.full_name}/{method.name}"]
    roles = [
        role
        for role in servers.callers[server]
        for _ in range(9 if allowed is ANYONE or role in allowed else 1)
    ]

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(
        st.sampled_from(roles),
        st.lists(message, min_size=int(not method.client_streaming), max_size=4),
    )
    def run(role: Role, requests: list[Message]) -> None:
        servers.run(send(servers.callers[server][role], method, requests))

    run()
    servers.run(servers.check_alive())


ALL = [
    *(pytest.param("aggregation", one, id=one.full_name[25:]) for one in methods(AGGREGATION)),
    *(pytest.param("keyservice", one, id=one.full_name[24:]) for one in methods(KEYSERVICE)),
]


@pytest.mark.parametrize(("server", "method"), ALL)
def test_every_method_refuses_with_a_name(
    servers: Servers, server: str, method: MethodDescriptor
) -> None:
    attack(servers, server, method, 30)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("server", "method"), ALL)
def test_every_method_for_longer(servers: Servers, server: str, method: MethodDescriptor) -> None:
    attack(servers, server, method, 1000)
