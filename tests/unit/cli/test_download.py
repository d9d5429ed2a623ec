"""What the operator downloads is the whole model that was described, or an error."""

import hashlib
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from finsecure.aggregation.v1 import models_pb2
from finsecure_cli import transport
from finsecure_cli.transport import Services
from finsecure_crypto.errors import IntegrityError

CONTENT = bytes(range(200))
MODEL = {
    "name": "federations/f1/tasks/t1/models/3",
    "size_bytes": len(CONTENT),
    "sha256": hashlib.sha256(CONTENT).hexdigest(),
}


def piece(start: int, end: int, content: bytes = CONTENT) -> models_pb2.Chunk:
    part = content[start:end]
    return models_pb2.Chunk(offset=start, content=part, crc32=zlib.crc32(part))


def flipped(chunk: models_pb2.Chunk) -> models_pb2.Chunk:
    chunk.content = bytes([chunk.content[0] ^ 1]) + chunk.content[1:]
    return chunk


class Disconnected(Services):
    """Services whose streams the test writes."""

    def __init__(self) -> None:
        self._wait = False

    def _channel(self, role: object) -> Any:
        class Channel:
            def __getattr__(self, name: str) -> Any:
                return lambda *args, **kwargs: None

        return Channel()


async def downloaded(monkeypatch: pytest.MonkeyPatch, *chunks: models_pb2.Chunk) -> bytes:
    async def stream(*args: object, **kwargs: object) -> AsyncIterator[Any]:
        for chunk in chunks:
            yield models_pb2.DownloadModelResponse(chunk=chunk)

    monkeypatch.setattr(transport, "stream", stream)
    return await Disconnected().download_model(MODEL)


async def test_pieces_become_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await downloaded(monkeypatch, piece(0, 120), piece(120, 200)) == CONTENT


@pytest.mark.parametrize(
    ("chunks", "code"),
    [
        ([flipped(piece(0, 200))], "CHUNK_REJECTED"),
        ([piece(0, 120), piece(100, 200)], "CHUNK_REJECTED"),
        ([piece(0, 120), piece(130, 200)], "CHUNK_REJECTED"),
        ([piece(0, 200), piece(200, 201, CONTENT + b"x")], "CHUNK_REJECTED"),
        ([piece(0, 199)], "MODEL_DIGEST_MISMATCH"),
        ([piece(0, 200, CONTENT[::-1])], "MODEL_DIGEST_MISMATCH"),
        ([], "MODEL_DIGEST_MISMATCH"),
    ],
    ids=["changed", "overlapping", "with a gap", "too long", "cut off", "another", "none"],
)
async def test_anything_else_is_refused(
    chunks: list[models_pb2.Chunk], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IntegrityError) as refused:
        await downloaded(monkeypatch, *chunks)
    assert refused.value.code == code
    assert "download it again" in refused.value.message
