"""The RPCs: find out who calls, convert, call, convert."""
# ruff: noqa: N802 -- the methods' names are the wire contract's

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from finsecure.aggregation.v1 import (
    models_pb2,
    models_pb2_grpc,
    participation_pb2,
    participation_pb2_grpc,
    sums_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)
from finsecure_crypto.errors import (
    FinSecureError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from finsecure_rpc.idempotency import once
from finsecure_rpc.paging import decode_token, encode_token, page_size
from finsecure_rpc.peer import require_peer
from finsecure_rpc.server import Service
from google.protobuf.message import Message as Proto

from finsecure_aggregator import convert, schema, store
from finsecure_aggregator.blobs import CHUNK_BYTES
from finsecure_aggregator.clock import Clock
from finsecure_aggregator.encryption import EncryptionDesk
from finsecure_aggregator.initial_models import InitialModels
from finsecure_aggregator.models import ModelKeeper
from finsecure_aggregator.participation import Participation
from finsecure_aggregator.rechecks import Rechecks
from finsecure_aggregator.records import ModelRecord, RoundKey, RoundState, TaskRecord, TaskState
from finsecure_aggregator.scheduler import Scheduler
from finsecure_aggregator.sums.desk import AuditedSums
from finsecure_aggregator.sums.service import AuditedSumService
from finsecure_aggregator.uploads import Piece
from finsecure_aggregator.watchers import Changes, Presence

_WATCH_TASK_PAUSE_S = 0.1  # every message of a round is a change: take several together
_HEAR_OUT_S = 5.0
_HEAR_OUT_BYTES = 16 << 20

Context = Any  # grpc.aio.ServicerContext, whatever its messages
Item = TypeVar("Item")
Request = TypeVar(
    "Request",
    models_pb2.UploadInitialModelRequest,
    participation_pb2.SubmitInputRequest,
)


@dataclass(frozen=True)
class Desk:
    """What the services work with.

    Attributes:
        federation: id of the one federation that is served.
        store: durable state.
        models: model versions.
        rechecks: reads stored versions again.
        scheduler: runs the tasks.
        participation: the clients' side of rounds.
        initial_models: receives initial models.
        presence: who is connected.
        changes: wakes watchers.
        clock: time.
        encryption: keys that tasks may name.
        sums: audited sums.
    """

    federation: str
    store: store.Store
    models: ModelKeeper
    rechecks: Rechecks
    scheduler: Scheduler
    participation: Participation
    initial_models: InitialModels
    presence: Presence
    changes: Changes
    clock: Clock
    encryption: EncryptionDesk
    sums: AuditedSums

    def require_federation(self, federation: str) -> None:
        """Refuse names of other federations; NotFoundError FEDERATION_NOT_FOUND."""
        if federation != self.federation:
            raise NotFoundError(
                "FEDERATION_NOT_FOUND",
                f"this aggregator serves federations/{self.federation} and no other",
            )

    def task_name(self, name: str) -> str:
        """Check the name of a task of this federation."""
        self.require_federation(convert.task_name(name))
        return name

    def round_key(self, name: str) -> RoundKey:
        """Read the name of a round of this federation."""
        federation, key = convert.round_key(name)
        self.require_federation(federation)
        return key

    def model(self, record: ModelRecord) -> models_pb2.Model:
        """Make the wire's form of a model version as it stands."""
        return convert.model(self.models.refreshed(record), self.models.quarantined(record))

    def task(self, record: TaskRecord) -> tasks_pb2.Task:
        """Make the wire's form of a task as it stands."""
        proto = convert.task(record, self.presence.count(record.name))
        minimum = proto.spec.cohort.minimum
        if record.state is TaskState.AWAITING_MODEL:
            proto.state_detail = "waits for its initial model; upload it"
        elif (
            record.state is TaskState.RUNNING
            and record.current is None
            and proto.available_clients < minimum
        ):
            waits = f"waits for clients: {proto.available_clients} of {minimum} are connected"
            proto.state_detail = f"{record.detail}; {waits}" if record.detail else waits
        return proto


def services(desk: Desk) -> Sequence[Service]:
    """All services of the aggregator, for `build_server`."""
    return (
        (tasks_pb2_grpc.add_TaskServiceServicer_to_server, TaskService(desk)),
        (tasks_pb2_grpc.add_RoundServiceServicer_to_server, RoundService(desk)),
        (models_pb2_grpc.add_ModelServiceServicer_to_server, ModelService(desk)),
        (
            participation_pb2_grpc.add_ParticipationServiceServicer_to_server,
            ParticipationService(desk),
        ),
        (
            sums_pb2_grpc.add_AuditedSumServiceServicer_to_server,
            AuditedSumService(desk.federation, desk.sums),
        ),
    )


def _page(
    items: Sequence[Item], size: int, scope: str, key: Callable[[Item], tuple[str | int, ...]]
) -> tuple[Sequence[Item], str]:
    """Cut what was read (one more than the page holds) and make the token of the next page."""
    if len(items) <= size:
        return items, ""
    return items[:size], encode_token(scope, key(items[size - 1]))


class TaskService(tasks_pb2_grpc.TaskServiceServicer):
    """Tasks."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateTask(
        self, request: tasks_pb2.CreateTaskRequest, context: Context
    ) -> tasks_pb2.CreateTaskResponse:
        """Register a task."""
        desk, spec = self._desk, convert.spec_bytes(request.task.spec)
        name = desk.task_name(request.task.name)
        # A sparse graph for very many clients takes seconds to search.
        plan = convert.plan(name, spec)
        await asyncio.to_thread(plan.check)
        await desk.encryption.check(plan)
        record = TaskRecord(name, spec, TaskState.AWAITING_MODEL, "", desk.clock.now_ns())
        caller = str(require_peer().spiffe_id)
        return await desk.store.transact(
            lambda connection: once(
                connection,
                schema.requests,
                caller,
                request,
                tasks_pb2.CreateTaskResponse,
                lambda: tasks_pb2.CreateTaskResponse(
                    task=desk.task(store.create_task(connection, record))
                ),
            )
        )

    async def GetTask(
        self, request: tasks_pb2.GetTaskRequest, context: Context
    ) -> tasks_pb2.GetTaskResponse:
        """Read a task."""
        record = await self._desk.store.task(self._desk.task_name(request.name))
        return tasks_pb2.GetTaskResponse(task=self._desk.task(record))

    async def ListTasks(
        self, request: tasks_pb2.ListTasksRequest, context: Context
    ) -> tasks_pb2.ListTasksResponse:
        """Read a page of tasks."""
        self._desk.require_federation(convert.federation_of(request.parent))
        size, scope = page_size(request.page_size), f"ListTasks:{request.parent}"
        after = decode_token(request.page_token, scope, (str,)) or ("",)
        found = await self._desk.store.tasks(after=after[0], limit=size + 1)
        page, token = _page(found, size, scope, lambda record: (record.name,))
        return tasks_pb2.ListTasksResponse(
            tasks=[self._desk.task(record) for record in page], next_page_token=token
        )

    async def CancelTask(
        self, request: tasks_pb2.CancelTaskRequest, context: Context
    ) -> tasks_pb2.CancelTaskResponse:
        """End a task."""
        desk, name = self._desk, self._desk.task_name(request.name)
        caller = str(require_peer().spiffe_id)
        response = await desk.store.transact(
            lambda connection: once(
                connection,
                schema.requests,
                caller,
                request,
                tasks_pb2.CancelTaskResponse,
                lambda: tasks_pb2.CancelTaskResponse(
                    task=desk.task(store.cancel_task(connection, name))
                ),
            )
        )
        if response.task.state == tasks_pb2.TASK_STATE_CANCELLED:
            await desk.scheduler.cancel(name)
        return response

    async def WatchTask(
        self, request: tasks_pb2.WatchTaskRequest, context: Context
    ) -> AsyncIterator[tasks_pb2.WatchTaskResponse]:
        """Send the task's state at each change, until it ends."""
        desk, name = self._desk, self._desk.task_name(request.name)
        sent: tasks_pb2.WatchTaskResponse | None = None
        with desk.changes.watch((name,)) as changed:
            while True:
                changed.clear()
                record = await desk.store.task(name)
                last = await desk.store.last_round(name)
                response = tasks_pb2.WatchTaskResponse(
                    task=desk.task(record), round=convert.round_(last) if last else None
                )
                if response != sent:
                    yield response
                    sent = response
                if record.state.ended and record.current is None:
                    return
                await asyncio.sleep(_WATCH_TASK_PAUSE_S)
                await changed.wait()


class RoundService(tasks_pb2_grpc.RoundServiceServicer):
    """History of rounds."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def GetRound(
        self, request: tasks_pb2.GetRoundRequest, context: Context
    ) -> tasks_pb2.GetRoundResponse:
        """Read a round."""
        record = await self._desk.store.round(self._desk.round_key(request.name))
        return tasks_pb2.GetRoundResponse(round=convert.round_(record))

    async def ListRounds(
        self, request: tasks_pb2.ListRoundsRequest, context: Context
    ) -> tasks_pb2.ListRoundsResponse:
        """Read a page of a task's rounds."""
        task = self._desk.task_name(request.parent)
        size, scope = page_size(request.page_size), f"ListRounds:{task}"
        after = decode_token(request.page_token, scope, (int, int)) or (-1, 0)
        await self._desk.store.task(task)
        found = await self._desk.store.rounds(task, after=(after[0], after[1]), limit=size + 1)
        page, token = _page(found, size, scope, lambda r: (r.key.number, r.key.attempt))
        return tasks_pb2.ListRoundsResponse(
            rounds=[convert.round_(record) for record in page], next_page_token=token
        )


class ModelService(models_pb2_grpc.ModelServiceServicer):
    """Model versions."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def UploadInitialModel(
        self,
        request_iterator: AsyncIterator[models_pb2.UploadInitialModelRequest],
        context: Context,
    ) -> models_pb2.UploadInitialModelResponse:
        """Take version 0 of a task's model."""
        async with _heard_out(request_iterator):
            upload = (await _first(request_iterator, "upload")).upload
            task = self._desk.task_name(upload.task)
            record = await self._desk.store.task(task)
            model = await self._desk.initial_models.receive(
                convert.plan(task, record.spec),
                upload.size_bytes,
                upload.sha256,
                _pieces(request_iterator),
            )
        self._desk.changes.notify(task)
        return models_pb2.UploadInitialModelResponse(model=self._desk.model(model))

    async def GetModel(
        self, request: models_pb2.GetModelRequest, context: Context
    ) -> models_pb2.GetModelResponse:
        """Read a version's signed description."""
        task, version = self._model_name(request.name)
        record = await self._desk.store.model(task, version)
        return models_pb2.GetModelResponse(model=self._desk.model(record))

    async def ListModels(
        self, request: models_pb2.ListModelsRequest, context: Context
    ) -> models_pb2.ListModelsResponse:
        """Read a page of a task's versions."""
        task = self._desk.task_name(request.parent)
        size, scope = page_size(request.page_size), f"ListModels:{task}"
        after = decode_token(request.page_token, scope, (int,)) or (-1,)
        await self._desk.store.task(task)
        found = await self._desk.store.models(task, after=after[0], limit=size + 1)
        page, token = _page(found, size, scope, lambda record: (record.version,))
        return models_pb2.ListModelsResponse(
            # Without envelopes, so that a page fits into a message.
            models=[self._desk.model(replace(record, envelope=b"")) for record in page],
            next_page_token=token,
        )

    async def DownloadModel(
        self, request: models_pb2.DownloadModelRequest, context: Context
    ) -> AsyncIterator[models_pb2.DownloadModelResponse]:
        """Stream a version's file."""
        task, version = self._model_name(request.name)
        record = await self._desk.store.model(task, version)
        self._desk.models.require_free(record)
        if request.offset > record.size_bytes:
            raise InvalidArgumentError(
                "OFFSET_BEYOND_END",
                f"{record.name} has {record.size_bytes} bytes; start below that",
            )
        for offset in range(request.offset, record.size_bytes, CHUNK_BYTES):
            content = await asyncio.to_thread(self._desk.models.piece, record, offset, CHUNK_BYTES)
            yield models_pb2.DownloadModelResponse(
                chunk=models_pb2.Chunk(offset=offset, content=content, crc32=zlib.crc32(content))
            )

    async def RecheckModel(
        self, request: models_pb2.RecheckModelRequest, context: Context
    ) -> models_pb2.RecheckModelResponse:
        """Read a version's file again; into quarantine or out of it."""
        task, version = self._model_name(request.name)
        record = await self._desk.store.model(task, version)
        record = await self._desk.rechecks.recheck(record)
        return models_pb2.RecheckModelResponse(model=self._desk.model(record))

    def _model_name(self, name: str) -> tuple[str, int | None]:
        federation, task, version = convert.model_name(name)
        self._desk.require_federation(federation)
        return task, version


class ParticipationService(participation_pb2_grpc.ParticipationServiceServicer):
    """A client's side of secure aggregation."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._participation = desk.participation
        self._instructions = convert.Instructions()

    async def Watch(
        self, request: participation_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[participation_pb2.WatchResponse]:
        """Send open instructions, then each new one."""
        tasks = [self._desk.task_name(name) for name in request.tasks]
        async for item in self._participation.watch(require_peer().id, tasks):
            yield self._instructions.write(item)

    async def AdvertiseKeys(
        self, request: participation_pb2.AdvertiseKeysRequest, context: Context
    ) -> participation_pb2.AdvertiseKeysResponse:
        """Take phase 1's message."""
        caller = require_peer().id
        if request.advertisement.client != caller:
            raise PermissionDeniedError(
                "CLIENT_MISMATCH",
                f"the message is from {request.advertisement.client}, the connection from {caller}",
            )
        await self._submit(RoundState.ADVERTISE_KEYS, request.round, request)
        return participation_pb2.AdvertiseKeysResponse()

    async def ShareKeys(
        self, request: participation_pb2.ShareKeysRequest, context: Context
    ) -> participation_pb2.ShareKeysResponse:
        """Take phase 2's message."""
        await self._submit(RoundState.SHARE_KEYS, request.round, request)
        return participation_pb2.ShareKeysResponse()

    async def SubmitInput(
        self,
        request_iterator: AsyncIterator[participation_pb2.SubmitInputRequest],
        context: Context,
    ) -> participation_pb2.SubmitInputResponse:
        """Take phase 3's vector, or some more of it."""
        async with _heard_out(request_iterator):
            header = (await _first(request_iterator, "header")).header
            key, client = self._desk.round_key(header.round), require_peer().id
            status = await self._participation.upload(
                key, client, convert.serialised(header), _pieces(request_iterator)
            )
        return participation_pb2.SubmitInputResponse(
            committed_bytes=status.committed_bytes, accepted=status.accepted
        )

    async def GetUploadStatus(
        self, request: participation_pb2.GetUploadStatusRequest, context: Context
    ) -> participation_pb2.GetUploadStatusResponse:
        """Say how much of the vector is on disk."""
        key = self._desk.round_key(request.round)
        status = await self._participation.upload_status(key, require_peer().id)
        return participation_pb2.GetUploadStatusResponse(
            committed_bytes=status.committed_bytes, accepted=status.accepted
        )

    async def ConfirmSurvivors(
        self, request: participation_pb2.ConfirmSurvivorsRequest, context: Context
    ) -> participation_pb2.ConfirmSurvivorsResponse:
        """Take phase 4's message."""
        await self._submit(RoundState.CONFIRM_SURVIVORS, request.round, request)
        return participation_pb2.ConfirmSurvivorsResponse()

    async def RevealShares(
        self, request: participation_pb2.RevealSharesRequest, context: Context
    ) -> participation_pb2.RevealSharesResponse:
        """Take phase 5's message."""
        await self._submit(RoundState.REVEAL_SHARES, request.round, request)
        return participation_pb2.RevealSharesResponse()

    async def DeclineRound(
        self, request: participation_pb2.DeclineRoundRequest, context: Context
    ) -> participation_pb2.DeclineRoundResponse:
        """Take a refusal."""
        key = self._desk.round_key(request.round)
        await self._participation.decline(key, require_peer().id, request.reason)
        return participation_pb2.DeclineRoundResponse()

    async def _submit(self, phase: RoundState, name: str, request: Proto) -> None:
        key = self._desk.round_key(name)
        await self._participation.submit(key, phase, require_peer().id, convert.serialised(request))


@asynccontextmanager
async def _heard_out(requests: AsyncIterator[Request]) -> AsyncIterator[None]:
    """Read what is left of a stream before the answer or the error goes out.

    A caller that is answered while it still sends sees its own failed write instead of the
    answer. Whoever sends much more is cut off all the same.
    """
    try:
        yield
    finally:
        with suppress(TimeoutError, FinSecureError):
            async with asyncio.timeout(_HEAR_OUT_S):
                left = _HEAR_OUT_BYTES
                async for request in requests:
                    left -= request.ByteSize()
                    if left < 0:
                        break


async def _first(requests: AsyncIterator[Request], part: str) -> Request:
    """Read the header of an upload.

    Raises:
        InvalidArgumentError: UPLOAD_WITHOUT_HEADER, the caller's fault.
    """
    async for request in requests:
        if request.WhichOneof("part") == part:
            return request
        break
    raise InvalidArgumentError("UPLOAD_WITHOUT_HEADER", "an upload starts with its header")


async def _pieces(requests: AsyncIterator[Request]) -> AsyncIterator[Piece]:
    """Read the chunks of an upload.

    Raises:
        InvalidArgumentError: SECOND_HEADER, the caller's fault.
    """
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidArgumentError("SECOND_HEADER", "an upload has one header, at its start")
        yield Piece(request.chunk.offset, request.chunk.content, request.chunk.crc32)
