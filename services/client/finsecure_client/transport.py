"""The aggregator's services as this client calls them; the only place with generated stubs."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from finsecure.aggregation.v1 import (
    models_pb2,
    models_pb2_grpc,
    participation_pb2,
    participation_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)
from finsecure_crypto.errors import IntegrityError, ProtocolViolationError
from finsecure_crypto.homomorphic.rounds import EncryptedInputHeader
from finsecure_crypto.secagg import messages
from finsecure_rpc.connection import Connection
from finsecure_rpc.logs import get_logger

from finsecure_client import convert
from finsecure_client.instructions import Instruction, Malformed
from finsecure_client.terms import TaskStatus
from finsecure_client.trust import SignedModel

log = get_logger(__name__)

CHUNK_BYTES = 1 << 20
_CALL_S = 30.0
_DOWNLOAD_S = 1800.0
_UPLOAD_S = 1800.0
# The stream is opened anew after this time, so that a dead one is noticed.
_WATCH_S = 3600.0
_PAGE = 100
_MAX_PAGES = 1000


class Aggregator:
    """The aggregator over one connection.

    Every method raises `UnavailableError` where it cannot be reached, and otherwise what the
    aggregator answers; nothing here repeats a call.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # One upload at a time: the egress manifest ascribes a stream's chunks to its header.
        self._uploading = asyncio.Lock()

    async def list_tasks(self, federation: str) -> list[TaskStatus]:
        """Read all tasks of a federation, by id; those that make no sense are left out."""
        stub = self._connection.stub(tasks_pb2_grpc.TaskServiceStub)
        found: list[TaskStatus] = []
        token = ""
        for _ in range(_MAX_PAGES):
            page = await self._connection.call(
                stub.ListTasks,
                tasks_pb2.ListTasksRequest(
                    parent=f"federations/{federation}", page_size=_PAGE, page_token=token
                ),
                deadline_s=_CALL_S,
            )
            for message in page.tasks:
                try:
                    found.append(convert.task_status(message))
                except ProtocolViolationError as error:
                    log.warning("task left out", task=message.name[:160], error=str(error))
            token = page.next_page_token
            if not token:
                return found
        raise ProtocolViolationError("MESSAGE_INVALID", "the aggregator's task list has no end")

    async def get_task(self, name: str) -> TaskStatus:
        """Read one task by resource name."""
        stub = self._connection.stub(tasks_pb2_grpc.TaskServiceStub)
        response = await self._connection.call(
            stub.GetTask, tasks_pb2.GetTaskRequest(name=name), deadline_s=_CALL_S
        )
        return convert.task_status(response.task)

    async def get_model(self, name: str) -> SignedModel:
        """Read a model version's signed description; `…/models/latest` is the newest."""
        stub = self._connection.stub(models_pb2_grpc.ModelServiceStub)
        response = await self._connection.call(
            stub.GetModel, models_pb2.GetModelRequest(name=name), deadline_s=_CALL_S
        )
        return convert.signed_model(response.model)

    async def download_model(self, name: str, offset: int) -> AsyncIterator[bytes]:
        """Yield a model file's bytes from an offset on.

        Raises:
            IntegrityError: CHUNK_CORRUPT, where a chunk is damaged or in the wrong place.
        """
        stub = self._connection.stub(models_pb2_grpc.ModelServiceStub)
        request = models_pb2.DownloadModelRequest(name=name, offset=offset)
        async for response in self._connection.stream(
            stub.DownloadModel, request, deadline_s=_DOWNLOAD_S
        ):
            chunk = response.chunk
            if chunk.offset != offset or zlib.crc32(chunk.content) != chunk.crc32:
                raise IntegrityError(
                    "CHUNK_CORRUPT",
                    f"a chunk of {name} at byte {offset} arrived damaged; it is fetched anew",
                )
            offset += len(chunk.content)
            yield chunk.content

    async def watch(self, tasks: Sequence[str]) -> AsyncIterator[Instruction]:
        """Yield instructions for as long as the stream lasts."""
        stub = self._connection.stub(participation_pb2_grpc.ParticipationServiceStub)
        request = participation_pb2.WatchRequest(tasks=tasks)
        async for response in self._connection.stream(stub.Watch, request, deadline_s=_WATCH_S):
            try:
                instruction = convert.instruction(response)
            except ProtocolViolationError as error:
                # Only its round is lost, not the stream with all other rounds.
                now = datetime.now(UTC)
                name = response.round[: convert.MAXIMUM_NAME]
                instruction = Instruction(name, now, Malformed(error))
            yield instruction

    async def advertise_keys(self, name: str, message: messages.KeyAdvertisement) -> None:
        """Phase 1."""
        await self._send("AdvertiseKeys", convert.key_advertisement(name, message))

    async def share_keys(self, name: str, message: messages.KeyShares) -> None:
        """Phase 2."""
        await self._send("ShareKeys", convert.key_shares(name, message))

    async def upload_status(self, name: str) -> tuple[int, bool]:
        """Ask how many bytes of the input are on disk, and whether it is accepted."""
        stub = self._connection.stub(participation_pb2_grpc.ParticipationServiceStub)
        response = await self._connection.call(
            stub.GetUploadStatus,
            participation_pb2.GetUploadStatusRequest(round=name),
            deadline_s=_CALL_S,
        )
        return response.committed_bytes, response.accepted

    async def submit_input(
        self,
        name: str,
        header: messages.MaskedInputHeader | EncryptedInputHeader,
        content: memoryview,
        start: int,
    ) -> tuple[int, bool]:
        """Upload from byte `start` on; returns the bytes on disk and acceptance."""

        async def parts() -> AsyncIterator[participation_pb2.SubmitInputRequest]:
            yield convert.input_header(name, header)
            for offset in range(start, len(content), CHUNK_BYTES):
                piece = bytes(content[offset : offset + CHUNK_BYTES])
                yield participation_pb2.SubmitInputRequest(
                    chunk=models_pb2.Chunk(offset=offset, content=piece, crc32=zlib.crc32(piece))
                )

        async with self._uploading:
            stub = self._connection.stub(participation_pb2_grpc.ParticipationServiceStub)
            response = await self._connection.call(stub.SubmitInput, parts(), deadline_s=_UPLOAD_S)
        return response.committed_bytes, response.accepted

    async def confirm_survivors(self, name: str, message: messages.SurvivorConfirmation) -> None:
        """Phase 4."""
        await self._send("ConfirmSurvivors", convert.confirmation(name, message))

    async def reveal_shares(self, name: str, message: messages.RevealedShares) -> None:
        """Phase 5."""
        await self._send("RevealShares", convert.revealed_shares(name, message))

    async def decline_round(self, name: str, reason: str) -> None:
        """Say that this client leaves the round."""
        request = participation_pb2.DeclineRoundRequest(round=name, reason=reason)
        await self._send("DeclineRound", request)

    async def _send(self, method: str, request: object) -> None:
        stub = self._connection.stub(participation_pb2_grpc.ParticipationServiceStub)
        await self._connection.call(getattr(stub, method), request, deadline_s=_CALL_S)
