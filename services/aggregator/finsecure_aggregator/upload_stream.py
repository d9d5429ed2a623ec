"""Streams of uploads: a header, then chunks, read to their end before the answer goes out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from finsecure.aggregation.v1 import models_pb2, participation_pb2
from finsecure_crypto.errors import FinSecureError, InvalidArgumentError

from finsecure_aggregator.uploads import Piece

_HEAR_OUT_S = 5.0
_HEAR_OUT_BYTES = 16 << 20

Request = TypeVar(
    "Request",
    models_pb2.UploadInitialModelRequest,
    participation_pb2.SubmitInputRequest,
)


@asynccontextmanager
async def heard_out(requests: AsyncIterator[Request]) -> AsyncIterator[None]:
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


async def first(requests: AsyncIterator[Request], part: str) -> Request:
    """Read the header of an upload.

    Raises:
        InvalidArgumentError: UPLOAD_WITHOUT_HEADER, the caller's fault.
    """
    async for request in requests:
        if request.WhichOneof("part") == part:
            return request
        break
    raise InvalidArgumentError("UPLOAD_WITHOUT_HEADER", "an upload starts with its header")


async def pieces(requests: AsyncIterator[Request]) -> AsyncIterator[Piece]:
    """Read the chunks of an upload.

    Raises:
        InvalidArgumentError: SECOND_HEADER, the caller's fault.
    """
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidArgumentError("SECOND_HEADER", "an upload has one header, at its start")
        yield Piece(request.chunk.offset, request.chunk.content, request.chunk.crc32)
