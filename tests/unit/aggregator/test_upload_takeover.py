"""A second upload of the same client, while the first is being examined."""

import asyncio
import hashlib
import zlib
from types import SimpleNamespace

import pytest
from finsecure.aggregation.v1 import participation_pb2
from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.records import RoundKey, RoundState
from finsecure_aggregator.uploads import Piece, Uploads, UploadStatus
from finsecure_crypto.errors import FinSecureError, ProtocolViolationError

KEY = RoundKey("federations/lending/tasks/credit", 1, 1)
CLIENT, CONTENT = "bank-a", b"an input" * 1000
OTHER = b"another!" * 1000


class Round:
    """A round that takes one input, once a test lets it go through the examination."""

    def __init__(self) -> None:
        self.key = KEY
        self.record = SimpleNamespace(state=RoundState.SUBMIT_INPUT, key=KEY)
        self.accepted = b""
        self.examined, self.checked = asyncio.Event(), asyncio.Event()
        self.may_pass = asyncio.Event()

    def input_bytes(self) -> int:
        return len(CONTENT)

    async def check(self, phase: RoundState, client: str, header: bytes) -> bool:
        if self.examined.is_set():
            self.checked.set()
        if self.accepted and self.accepted != header:
            raise ProtocolViolationError("DUPLICATE_MESSAGE", "another one", culprit=client)
        return not self.accepted

    async def examine_input(self, client: str) -> None:
        self.examined.set()
        await self.may_pass.wait()

    async def accept(self, phase: RoundState, client: str, header: bytes, **_: object) -> None:
        self.accepted = header


def header(content: bytes) -> bytes:
    said = participation_pb2.InputHeader(
        size_bytes=len(content), sha256=hashlib.sha256(content).digest()
    )
    return said.SerializeToString()


async def pieces(content: bytes):
    yield Piece(0, content, zlib.crc32(content))


@pytest.mark.parametrize(
    ("content", "outcome"),
    [(CONTENT, UploadStatus(len(CONTENT), accepted=True)), (OTHER, "DUPLICATE_MESSAGE")],
)
async def test_what_was_accepted_is_not_touched_by_a_stream_that_waited(tmp_path, content, outcome):
    one, blobs = Round(), Blobs(tmp_path)
    uploads = Uploads(blobs)

    async def receive(sent: bytes) -> UploadStatus | str:
        try:
            return await uploads.receive(one, CLIENT, header(sent), pieces(sent))
        except FinSecureError as error:
            return error.code

    async with asyncio.timeout(30):
        first = asyncio.create_task(receive(CONTENT))
        await one.examined.wait()
        second = asyncio.create_task(receive(content))
        await one.checked.wait()  # it was let in, and waits for the first one
        one.may_pass.set()
        assert await first == UploadStatus(len(CONTENT), accepted=True)
        assert await second == outcome
    path = blobs.input_path(KEY, CLIENT)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
