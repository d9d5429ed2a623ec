"""Inputs on their way in: resumable, one writer for each client, off the event loop."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from finsecure_crypto.errors import StateError

from finsecure_aggregator.attendance import wrong_phase
from finsecure_aggregator.blobs import Blobs, PartFile
from finsecure_aggregator.records import RoundKey, RoundState
from finsecure_aggregator.rounds import RoundDriver
from finsecure_aggregator.wire.client_messages import input_header

T = TypeVar("T")

# Bytes are checked, hashed and written by one thread for each core: more would only take turns, and
# the caches, from one another.
_WORKING = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="upload-bytes")
# Many, since they wait for the disk, which syncs several files at once for the price of one; and
# their own, so that nothing else waits with them.
_SYNCING = ThreadPoolExecutor(32, thread_name_prefix="upload-sync")


@dataclass(frozen=True)
class Piece:
    """A chunk of an upload.

    Attributes:
        offset: where it starts.
        content: the bytes.
        crc32: of the bytes.
    """

    offset: int
    content: bytes
    crc32: int


@dataclass(frozen=True)
class UploadStatus:
    """What is on disk.

    Attributes:
        committed_bytes: of the input.
        accepted: whether the input is whole, verified and in the round's log.
    """

    committed_bytes: int
    accepted: bool


@dataclass(eq=False)
class _Slot:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    stream: object | None = None  # the stream that may write now
    part: PartFile | None = None


class Uploads:
    """Receives the inputs of all rounds."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._slots: dict[tuple[RoundKey, str], _Slot] = {}

    async def receive(
        self, driver: RoundDriver, client: str, header: bytes, pieces: AsyncIterator[Piece]
    ) -> UploadStatus:
        """Go on with a client's upload; a newer stream of the same client takes over.

        Args:
            driver: of the round.
            client: the authenticated sender.
            header: serialised InputHeader.
            pieces: from the committed size on.

        Raises:
            StateError: WRONG_PHASE, STALE_ROUND or UPLOAD_SUPERSEDED.
            IntegrityError: what `PartFile` refuses; what came before stays.
            ProtocolViolationError: what the core says of the header, or of the ciphertexts.
            UnavailableError: EXAMINATION_TIMED_OUT; the input stays, the header alone serves again.
        """
        if not await driver.check(RoundState.SUBMIT_INPUT, client, header):
            return UploadStatus(driver.input_bytes(), accepted=True)
        said = input_header(header)
        slot = self._slots.setdefault((driver.key, client), _Slot())
        stream = slot.stream = object()
        try:
            async with slot.lock:
                self._require_current(slot, stream)
                # The stream before may have been accepted while this one waited for it; what it
                # brought is never touched again.
                if not await driver.check(RoundState.SUBMIT_INPUT, client, header):
                    return UploadStatus(driver.input_bytes(), accepted=True)
                if slot.part is not None:
                    slot.part.close()
                slot.part = part = await _in_thread(
                    _SYNCING,
                    self._blobs.open_input,
                    driver.key,
                    client,
                    said.size_bytes,
                    said.sha256,
                )
            async for piece in pieces:
                async with slot.lock:
                    self._require_current(slot, stream)
                    if driver.record.state is not RoundState.SUBMIT_INPUT:
                        raise wrong_phase(driver.record, RoundState.SUBMIT_INPUT)
                    await _in_thread(
                        _WORKING, part.append, piece.offset, piece.content, piece.crc32
                    )
            async with slot.lock:
                self._require_current(slot, stream)
                if not part.whole:
                    return UploadStatus(await _in_thread(_SYNCING, part.sync), accepted=False)
                await _in_thread(_SYNCING, part.finish)
                await driver.examine_input(client)
                size = said.size_bytes + len(header)
                await driver.accept(RoundState.SUBMIT_INPUT, client, header, size_bytes=size)
            return UploadStatus(said.size_bytes, accepted=True)
        finally:
            if slot.stream is stream:
                slot.stream = None
                if slot.part is not None:
                    slot.part.close()
                    slot.part = None
                self._slots.pop((driver.key, client), None)

    async def status(self, driver: RoundDriver, client: str) -> UploadStatus:
        """Say how much of a client's upload is on disk."""
        if driver.has_input(client):
            return UploadStatus(driver.input_bytes(), accepted=True)
        committed = await asyncio.to_thread(self._blobs.committed_input, driver.key, client)
        return UploadStatus(committed, accepted=False)

    @staticmethod
    def _require_current(slot: _Slot, stream: object) -> None:
        if slot.stream is not stream:
            raise StateError(
                "UPLOAD_SUPERSEDED", "a newer upload of the same input has taken over; let it run"
            )


async def _in_thread(
    threads: ThreadPoolExecutor, function: Callable[..., T], *arguments: object
) -> T:
    """Call off the event loop; a cancelled caller still waits, for the file has one writer."""
    task = asyncio.get_running_loop().run_in_executor(threads, function, *arguments)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
