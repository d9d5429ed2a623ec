"""An aggregator of one round at a time over real gRPC, honest unless a test bends it.

It answers through the server's side of the protocol core, but has no store, no schedule and no
code of the real aggregator. `twist` sees every instruction before it is sent, and may change it.
"""

import asyncio
import hashlib
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from finsecure.aggregation.v1 import (
    models_pb2,
    models_pb2_grpc,
    participation_pb2,
    participation_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)
from finsecure_client import convert
from finsecure_crypto.certificates import Purpose, Role, verify_certificate
from finsecure_crypto.errors import NotFoundError, UnavailableError
from finsecure_crypto.federation import RoundKind, round_attempt, round_parameters
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.model_version import ModelVersion
from finsecure_crypto.secagg import messages, server
from finsecure_crypto.secagg.phases import Phase
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.peer import require_peer
from finsecure_rpc.policy import Limits, federation_peers, methods_of
from finsecure_rpc.server import Listener, RpcServer, build_server
from numpy.typing import NDArray

from tests.support.client import TASK
from tests.support.pki import TestAuthority, utc_now

Twist = Callable[[str, participation_pb2.WatchResponse], participation_pb2.WatchResponse | None]
_KINDS = {
    RoundKind.TRAINING: tasks_pb2.ROUND_KIND_TRAINING,
    RoundKind.STATISTICS: tasks_pb2.ROUND_KIND_STATISTICS,
}


class FakeAggregator(
    tasks_pb2_grpc.TaskServiceServicer,
    models_pb2_grpc.ModelServiceServicer,
    participation_pb2_grpc.ParticipationServiceServicer,
):
    def __init__(self, pki: TestAuthority, folder: Path, task: tasks_pb2.Task) -> None:
        self.pki = pki
        self.store = pki.enrol(folder, Role.AGGREGATOR, "main")
        self.task = task
        self.twist: Twist = lambda client, instruction: instruction
        self.received: list[tuple[str, str, bytes]] = []
        self.declined: dict[tuple[str, str], str] = {}
        self.cut_uploads: dict[str, int] = {}  # client → chunks after which one upload is cut
        self.refuse_calls = 0  # how many calls fail as if the server were away
        self.bend_chunk: Callable[[models_pb2.Chunk], None] = lambda chunk: None
        self.downloads: list[int] = []
        self.model_chunk = 64
        self.phase_s = 20.0
        self._streams: dict[str, set[asyncio.Queue[Any]]] = defaultdict(set)
        self._standing: dict[str, participation_pb2.WatchResponse] = {}
        self._changed = asyncio.Condition()
        self._collector: Any = None
        self._round = ""
        self._uploads: dict[str, bytearray] = {}
        self._sum: NDArray[np.uint64] | None = None
        self._files: dict[str, tuple[models_pb2.Model, bytes]] = {}
        self.publish_model(
            {
                tensor.name: np.zeros(tuple(tensor.shape), np.float32)
                for tensor in task.spec.model.tensors
            }
        )

    # Models

    def publish_model(self, tensors: dict[str, NDArray[np.float32]]) -> models_pb2.Model:
        content = safetensors.numpy.save(tensors)
        version = len(self._files)
        parent = self._latest().sha256 if version else b""
        model = models_pb2.Model(
            name=f"{TASK}/models/{version}",
            version=version,
            sha256=hashlib.sha256(content).digest(),
            size_bytes=len(content),
            parent_sha256=parent,
            round="",
        )
        model.create_time.FromDatetime(utc_now())
        self.sign(model)
        self._files[model.name] = (model, content)
        self.task.latest_model = model.name
        return model

    def sign(self, model: models_pb2.Model) -> None:
        identity = self.store.current()
        version = ModelVersion(
            model.name,
            model.version,
            model.sha256,
            model.size_bytes,
            model.parent_sha256,
            model.round,
            model.create_time.ToNanoseconds(),
        )
        model.signature = version.sign(identity.signing_key)
        model.signer_certificate = identity.signing_certificate

    def _latest(self) -> models_pb2.Model:
        return list(self._files.values())[-1][0]

    async def GetModel(self, request, context):  # noqa: N802
        self._note("GetModel", request)
        name = request.name
        if name.endswith("/latest"):
            name = self._latest().name
        if name not in self._files:
            raise NotFoundError("MODEL_NOT_FOUND", f"there is no {name}")
        return models_pb2.GetModelResponse(model=self._files[name][0])

    async def DownloadModel(self, request, context):  # noqa: N802
        self._note("DownloadModel", request)
        self.downloads.append(request.offset)
        content = self._files[request.name][1]
        size = self.model_chunk
        for offset in range(request.offset, len(content), size):
            piece = content[offset : offset + size]
            chunk = models_pb2.Chunk(offset=offset, content=piece, crc32=zlib.crc32(piece))
            self.bend_chunk(chunk)
            yield models_pb2.DownloadModelResponse(chunk=chunk)

    # Tasks

    async def ListTasks(self, request, context):  # noqa: N802
        self._note("ListTasks", request)
        return tasks_pb2.ListTasksResponse(tasks=[self.task])

    async def GetTask(self, request, context):  # noqa: N802
        self._note("GetTask", request)
        if request.name != self.task.name:
            raise NotFoundError("TASK_NOT_FOUND", f"there is no {request.name}")
        return tasks_pb2.GetTaskResponse(task=self.task)

    # Participation

    async def Watch(self, request, context):  # noqa: N802
        client = self._note("Watch", request)
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._streams[client].add(queue)
        try:
            await self._notify()
            if client in self._standing:
                queue.put_nowait(self._standing[client])
            while (instruction := await queue.get()) is not None:
                yield instruction
            raise UnavailableError("GOING_AWAY", "the server goes away")
        finally:
            self._streams[client].discard(queue)

    def drop_streams(self) -> None:
        """End all Watch streams, as a restart does."""
        for queues in self._streams.values():
            for queue in queues:
                queue.put_nowait(None)

    async def available(self, count: int) -> None:
        await self._until(lambda: sum(map(bool, self._streams.values())) >= count)

    def tell(self, client: str, instruction: participation_pb2.WatchResponse) -> None:
        """Send an instruction, and again whenever the client connects."""
        twisted = self.twist(client, instruction)
        if twisted is None:
            return
        self._standing[client] = twisted
        for queue in self._streams[client]:
            queue.put_nowait(twisted)

    async def AdvertiseKeys(self, request, context):  # noqa: N802
        client = self._note("AdvertiseKeys", request)
        sent = request.advertisement
        message = messages.KeyAdvertisement(
            client, sent.channel_key, sent.mask_key, sent.signature, sent.certificate
        )
        await self._accept(request.round, client, message)
        return participation_pb2.AdvertiseKeysResponse()

    async def ShareKeys(self, request, context):  # noqa: N802
        client = self._note("ShareKeys", request)
        message = messages.KeyShares(
            request.ciphertexts, request.self_mask_commitment, request.signature
        )
        await self._accept(request.round, client, message)
        return participation_pb2.ShareKeysResponse()

    async def SubmitInput(self, request_iterator, context):  # noqa: N802
        client, header, chunks = "", None, 0
        async for request in request_iterator:
            client = self._note("SubmitInput", request)
            if request.WhichOneof("part") == "header":
                header = request.header
                continue
            stored = self._uploads.setdefault(client, bytearray())
            assert request.chunk.offset == len(stored)
            assert zlib.crc32(request.chunk.content) == request.chunk.crc32
            stored += request.chunk.content
            chunks += 1
            if self.cut_uploads.get(client) == chunks:
                del self.cut_uploads[client]
                return participation_pb2.SubmitInputResponse(committed_bytes=len(stored))
        stored = self._uploads[client]
        assert hashlib.sha256(stored).digest() == header.sha256
        message = messages.MaskedInputHeader(header.size_bytes, header.sha256, header.signature)
        if await self._accept(header.round, client, message):
            self._sum += np.frombuffer(stored, "<u8")
        return participation_pb2.SubmitInputResponse(committed_bytes=len(stored), accepted=True)

    async def GetUploadStatus(self, request, context):  # noqa: N802
        client = self._note("GetUploadStatus", request)
        accepted = (
            isinstance(self._collector, server.CollectInputs) and client in self._collector.accepted
        )
        return participation_pb2.GetUploadStatusResponse(
            committed_bytes=len(self._uploads.get(client, b"")), accepted=accepted
        )

    async def ConfirmSurvivors(self, request, context):  # noqa: N802
        client = self._note("ConfirmSurvivors", request)
        await self._accept(request.round, client, messages.SurvivorConfirmation(request.signature))
        return participation_pb2.ConfirmSurvivorsResponse()

    async def RevealShares(self, request, context):  # noqa: N802
        client = self._note("RevealShares", request)
        message = messages.RevealedShares(
            request.self_mask_shares, request.mask_key_shares, request.unreadable
        )
        await self._accept(request.round, client, message)
        return participation_pb2.RevealSharesResponse()

    async def DeclineRound(self, request, context):  # noqa: N802
        client = self._note("DeclineRound", request)
        self.declined[request.round, client] = request.reason
        await self._notify()
        return participation_pb2.DeclineRoundResponse()

    # One round

    async def run_round(
        self,
        clients: list[str],
        *,
        number: int = 1,
        attempt: int = 1,
        kind: RoundKind = RoundKind.TRAINING,
        minimum_cohort: int = 0,
        on_phase: Callable[[Phase], None] = lambda phase: None,
    ) -> dict[str, NDArray[Any]]:
        """Run a round to its end and return the raw integer sums."""
        task, model = convert.task(self.task), self._latest()
        tried = round_attempt(
            task.terms.at_least(minimum_cohort),
            task_name=task.name,
            spec=task.spec,
            kind=kind,
            number=number,
            attempt=attempt,
            attempt_nonce=hashlib.sha256(f"{number}-{attempt}".encode()).digest(),
            model_digest=model.sha256,
            invited=len(clients),
        )
        parameters = round_parameters(tried, task.terms.protection)
        self._round = f"{TASK}/rounds/{number}-{attempt}"
        self._uploads, self._sum = {}, np.zeros(parameters.layout.words, np.uint64)
        invitation = participation_pb2.RoundInvitation(
            task=self.task,
            kind=_KINDS[kind],
            number=number,
            attempt=attempt,
            attempt_nonce=parameters.attempt_nonce,
            base_model=model,
            invited=len(clients),
            minimum_cohort=minimum_cohort,
        )
        collector: Any = server.CollectAdvertisements(parameters, frozenset(clients), self._verify)
        step = {
            Phase.ADVERTISE_KEYS: lambda client: {"advertise_keys": invitation},
            Phase.SHARE_KEYS: lambda client: {"share_keys": _roster(collector.roster, client)},
            Phase.SUBMIT_MASKED_INPUT: lambda client: {
                "submit_input": _delivery(collector.delivery(client))
            },
            Phase.CONFIRM_SURVIVORS: lambda client: {
                "confirm_survivors": participation_pb2.Survivors(survivors=collector.survivors)
            },
            Phase.REVEAL_SHARES: lambda client: {
                "reveal_shares": _confirmations(collector.confirmations(client))
            },
        }
        try:
            for phase, make in step.items():
                self._collector = collector
                on_phase(phase)
                for client in sorted(collector.expected):
                    self.tell(client, self._instruction(**make(client)))
                await self._until(self._all_answered, self.phase_s)
                collector = collector.close()
        except BaseException:
            self._end(clients, tasks_pb2.ROUND_STATE_ABORTED)
            raise
        apply_masks(self._sum, collector.masks)
        self._end(clients, tasks_pb2.ROUND_STATE_COMPLETED)
        self.task.completed_rounds = number
        return parameters.layout.decode_integers(self._sum, collector.contributors)

    def _all_answered(self) -> bool:
        """Whether all have answered that have not declined."""
        collector = self._collector
        return all(
            client in collector.accepted or (self._round, client) in self.declined
            for client in collector.expected
        )

    def _end(self, clients: list[str], state: int) -> None:
        self._collector = None
        outcome = participation_pb2.RoundOutcome(state=state)
        for client in clients:
            self.tell(client, self._instruction(outcome=outcome))
        self._standing.clear()

    def _instruction(self, **body: Any) -> participation_pb2.WatchResponse:
        instruction = participation_pb2.WatchResponse(round=self._round, **body)
        instruction.deadline.FromDatetime(datetime.now(UTC) + timedelta(seconds=self.phase_s))
        return instruction

    def _verify(self, client: str, certificate: bytes) -> bytes:
        # It does not look at revocations: a client has to.
        certified = verify_certificate(
            certificate, self.pki.anchors, None, utc_now(), Purpose.SIGNING
        )
        assert certified.spiffe_id.id == client
        return certified.public_key

    async def _accept(self, round_name: str, client: str, message: Any) -> bool:
        if round_name != self._round or self._collector is None:
            raise NotFoundError("ROUND_NOT_FOUND", f"{round_name} is not open")
        if isinstance(self._collector, server.CollectAdvertisements):
            accepted = self._collector.accept(message)
        else:
            accepted = self._collector.accept(client, message)
        await self._notify()
        return accepted

    def _note(self, method: str, request: Any) -> str:
        client = require_peer().id
        self.received.append((method, client, request.SerializeToString(deterministic=True)))
        if self.refuse_calls and method != "Watch":
            self.refuse_calls -= 1
            raise UnavailableError("GOING_AWAY", "the server goes away")
        return client

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            if self._collector is None:
                raise


def _roster(roster: Any, client: str) -> participation_pb2.Roster:
    shown = roster.for_client(client)
    return participation_pb2.Roster(
        size=shown.size,
        root=shown.root,
        index=shown.index,
        entries=[
            participation_pb2.RosterEntry(
                index=entry.index,
                advertisement=participation_pb2.KeyAdvertisement(
                    client=entry.advertisement.client,
                    channel_key=entry.advertisement.channel_key,
                    mask_key=entry.advertisement.mask_key,
                    signature=entry.advertisement.signature,
                    certificate=entry.advertisement.certificate,
                ),
                inclusion_proof=entry.inclusion_proof,
            )
            for entry in shown.entries
        ],
    )


def _delivery(delivery: messages.ShareDelivery) -> participation_pb2.ShareDelivery:
    return participation_pb2.ShareDelivery(
        sharers=delivery.sharers, ciphertexts=delivery.ciphertexts
    )


def _confirmations(confirmations: messages.Confirmations) -> participation_pb2.Confirmations:
    return participation_pb2.Confirmations(
        signers=confirmations.signers, signatures=confirmations.signatures
    )


@asynccontextmanager
async def running_aggregator(
    folder: Path, pki: TestAuthority, task: tasks_pb2.Task, address: str = "127.0.0.1:0"
) -> AsyncIterator[tuple[FakeAggregator, RpcServer]]:
    fake = FakeAggregator(pki, folder, task)
    rpc = build_server(
        [
            (tasks_pb2_grpc.add_TaskServiceServicer_to_server, fake),
            (models_pb2_grpc.add_ModelServiceServicer_to_server, fake),
            (participation_pb2_grpc.add_ParticipationServiceServicer_to_server, fake),
        ],
        {
            method: frozenset({Role.CLIENT})
            for method in methods_of(tasks_pb2, models_pb2, participation_pb2)
        },
        Authenticator(lambda: pki.anchors, pki, federation_peers(f"lending.{pki.domain}")),
        [Listener(address, server_credentials(fake.store))],
        Limits(deadlines=dict.fromkeys(methods_of(models_pb2, participation_pb2), 86400.0)),
    )
    await rpc.start()
    try:
        yield fake, rpc
    finally:
        await rpc.stop(0.2)
