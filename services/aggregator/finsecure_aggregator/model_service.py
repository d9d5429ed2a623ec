"""The RPCs of model versions."""
# ruff: noqa: N802 -- the methods' names are the wire contract's

import asyncio
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from finsecure.aggregation.v1 import models_pb2, models_pb2_grpc
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_rpc.paging import decode_token, page_of, page_size

from finsecure_aggregator.blobs import CHUNK_BYTES
from finsecure_aggregator.desk import Desk
from finsecure_aggregator.mutations import log_change
from finsecure_aggregator.upload_stream import first, heard_out, pieces
from finsecure_aggregator.wire.tasks import plan_of

Context = Any  # grpc.aio.ServicerContext, whatever its messages


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
        async with heard_out(request_iterator):
            upload = (await first(request_iterator, "upload")).upload
            task = self._desk.names.task(upload.task)
            record = await self._desk.store.task(task)
            log_change("UploadInitialModel", task)
            model = await self._desk.initial_models.receive(
                plan_of(task, record.spec),
                upload.size_bytes,
                upload.sha256,
                pieces(request_iterator),
            )
        self._desk.changes.notify(task)
        return models_pb2.UploadInitialModelResponse(model=self._desk.model(model))

    async def GetModel(
        self, request: models_pb2.GetModelRequest, context: Context
    ) -> models_pb2.GetModelResponse:
        """Read a version's signed description."""
        task, version = self._desk.names.model(request.name)
        record = await self._desk.store.model(task, version)
        return models_pb2.GetModelResponse(model=self._desk.model(record))

    async def ListModels(
        self, request: models_pb2.ListModelsRequest, context: Context
    ) -> models_pb2.ListModelsResponse:
        """Read a page of a task's versions."""
        task = self._desk.names.task(request.parent)
        size, scope = page_size(request.page_size), f"ListModels:{task}"
        after = decode_token(request.page_token, scope, (int,)) or (-1,)
        await self._desk.store.task(task)
        found = await self._desk.store.models(task, after=after[0], limit=size + 1)
        page, token = page_of(found, size, scope, lambda record: (record.version,))
        return models_pb2.ListModelsResponse(
            # Without envelopes, so that a page fits into a message.
            models=[self._desk.model(replace(record, envelope=b"")) for record in page],
            next_page_token=token,
        )

    async def DownloadModel(
        self, request: models_pb2.DownloadModelRequest, context: Context
    ) -> AsyncIterator[models_pb2.DownloadModelResponse]:
        """Stream a version's file."""
        task, version = self._desk.names.model(request.name)
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
        task, version = self._desk.names.model(request.name)
        record = await self._desk.store.model(task, version)
        log_change("RecheckModel", record.name)
        record = await self._desk.rechecks.recheck(record)
        return models_pb2.RecheckModelResponse(model=self._desk.model(record))
