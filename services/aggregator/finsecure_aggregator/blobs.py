"""Files: inputs while their round runs, model versions, optimiser state, initial uploads.

What is reported as committed is on the disk (fsync of the file, and of its folder where the name
is new). A file under its final name is whole, because it gets that name last.
"""

import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from finsecure_crypto.errors import IntegrityError, NotFoundError, ResourceExhaustedError
from finsecure_rpc.durable import sync_folder, write_file

from finsecure_aggregator.records import RoundKey

CHUNK_BYTES = 1 << 20


@contextmanager
def _disk() -> Iterator[None]:
    """Say what a failing disk means for the caller."""
    try:
        yield
    except OSError as error:
        raise ResourceExhaustedError(
            "STORAGE_FAILED",
            f"the aggregator cannot write to its disk ({error.strerror}); try again later, and "
            "ask its operator to free space",
        ) from error


def _task_folder(task: str) -> str:
    return task.rsplit("/", 1)[-1]


class PartFile:
    """A file that arrives in chunks, over as many streams as it takes.

    Not thread-safe: one writer at a time, off the event loop.

    Args:
        path: of the part; it grows there.
        final: its name once whole.
        size_bytes: that the whole must have.
        sha256: that the whole must have.
    """

    def __init__(self, path: Path, final: Path, size_bytes: int, sha256: bytes) -> None:
        self._path = path
        self._final = final
        self._size = size_bytes
        self._sha256 = sha256
        with _disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
        self._hash = hashlib.sha256()
        self._length = 0
        with path.open("rb") as existing:
            while block := existing.read(CHUNK_BYTES):
                self._hash.update(block)
                self._length += len(block)

    @property
    def length(self) -> int:
        """Bytes so far."""
        return self._length

    @property
    def whole(self) -> bool:
        """Whether all bytes are there, verified or not."""
        return self._length == self._size

    def append(self, offset: int, content: bytes, crc32: int) -> None:
        """Add a chunk where the last one ended.

        Raises:
            IntegrityError: CHUNK_OFFSET, UPLOAD_TOO_LONG or CHUNK_CORRUPT; what came before stays.
            ResourceExhaustedError: STORAGE_FAILED.
        """
        if offset != self._length:
            raise IntegrityError(
                "CHUNK_OFFSET",
                f"the chunk starts at {offset}, {self._length} bytes are there; ask "
                "GetUploadStatus and go on from what it says",
            )
        if offset + len(content) > self._size:
            raise IntegrityError(
                "UPLOAD_TOO_LONG", f"the upload is longer than the announced {self._size} bytes"
            )
        if zlib.crc32(content) != crc32:
            raise IntegrityError(
                "CHUNK_CORRUPT",
                f"the chunk at {offset} does not match its CRC-32; send it again",
            )
        with _disk():
            self._file.write(content)
            self._file.flush()
        self._hash.update(content)
        self._length += len(content)

    def sync(self) -> int:
        """Bring all bytes so far to the disk and say how many they are."""
        self._sync_content()
        with _disk():
            sync_folder(self._path.parent)
        return self._length

    def _sync_content(self) -> None:
        with _disk():
            self._file.flush()
            os.fsync(self._file.fileno())

    def finish(self) -> Path:
        """Verify the whole, bring it to the disk and give it its final name.

        The name itself is on the disk once the folder is synced, by the caller: many files that
        become whole together need that once.

        Raises:
            IntegrityError: UPLOAD_DIGEST_MISMATCH; the part is emptied, the sender starts anew.
        """
        self._sync_content()
        if self._hash.digest() != self._sha256:
            with _disk():
                self._file.truncate(0)
            self._hash, self._length = hashlib.sha256(), 0
            self.sync()
            raise IntegrityError(
                "UPLOAD_DIGEST_MISMATCH",
                "the upload does not match the SHA-256 of its header; send it again from the start",
            )
        with _disk():
            self._path.replace(self._final)
        self.close()
        return self._final

    def close(self) -> None:
        """Let go of the file; what is on the disk stays."""
        self._file.close()

    def discard(self) -> None:
        """Delete the file, whole or not."""
        self.close()
        for path in (self._path, self._final):
            path.unlink(missing_ok=True)


class Blobs:
    """The aggregator's files below one folder.

    Every method blocks and belongs off the event loop. Resource names have been checked against
    the pattern of ids before they come here, so they are safe as file names.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with _disk():
            for name in ("inputs", "models", "incoming", "sums"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            for stale in (folder / "incoming").iterdir():
                stale.unlink()  # an initial model whose upload was cut off

    def input_path(self, key: RoundKey, client: str) -> Path:
        """Where a whole input lies."""
        return self._inputs(key) / f"{client}.input"

    def open_input(self, key: RoundKey, client: str, size_bytes: int, sha256: bytes) -> PartFile:
        """Open an input to go on with it."""
        final = self.input_path(key, client)
        if final.exists():  # whole, but the crash came before it was accepted
            with _disk():
                final.replace(final.with_suffix(".part"))
        return PartFile(final.with_suffix(".part"), final, size_bytes, sha256)

    def committed_input(self, key: RoundKey, client: str) -> int:
        """Bytes of an input that are on the disk."""
        final = self.input_path(key, client)
        for path in (final, final.with_suffix(".part")):
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                with _disk():
                    os.fsync(descriptor)
                    sync_folder(path.parent)
                return os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
        return 0

    def opening_folder(self, key: RoundKey) -> Path:
        """Where the sum of an encrypted round and the trustees' answers lie, as long as inputs."""
        folder = self._inputs(key) / "opening"
        with _disk():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def drop_inputs(self, key: RoundKey) -> None:
        """Delete all inputs of a round that is over."""
        shutil.rmtree(self._inputs(key), ignore_errors=True)

    def sync_inputs(self, key: RoundKey) -> None:
        """Bring the names of all inputs of a round to the disk."""
        with _disk():
            sync_folder(self._inputs(key))

    def keep_inputs_of(self, keys: frozenset[RoundKey]) -> None:
        """Delete the inputs of all rounds but these; for the start of the process."""
        kept = {self._inputs(key) for key in keys}
        for folder in (self._folder / "inputs").glob("*/*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def write_contribution(self, sum_: str, client: str, sha256: bytes, content: bytes) -> Path:
        """Keep the ciphertexts that a member contributes to an audited sum; returns where."""
        path = self.contribution_path(sum_, client, sha256)
        with _disk():
            path.parent.mkdir(exist_ok=True)
            write_file(path, content)
            sync_folder(path.parent.parent)
        return path

    def contribution_path(self, sum_: str, client: str, sha256: bytes) -> Path:
        """Where ciphertexts of a member lie."""
        return self.sum_folder(sum_) / f"{client}-{sha256.hex()}"

    def sum_folder(self, sum_: str) -> Path:
        """Where everything of an audited sum lies, until it ends."""
        return self._folder / "sums" / sum_.rsplit("/", 1)[-1]

    def drop_sum(self, sum_: str) -> None:
        """Delete the ciphertexts of an audited sum that has ended."""
        shutil.rmtree(self.sum_folder(sum_), ignore_errors=True)

    def keep_sums(self, sums: frozenset[str]) -> None:
        """Delete the ciphertexts of all audited sums but these; for the start of the process."""
        kept = {self.sum_folder(sum_) for sum_ in sums}
        for folder in (self._folder / "sums").iterdir():
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def open_incoming(self, size_bytes: int, sha256: bytes) -> PartFile:
        """Open a fresh file for an initial model."""
        part = self._folder / "incoming" / f"{uuid4().hex}.part"
        return PartFile(part, part.with_suffix(".safetensors"), size_bytes, sha256)

    def write(self, task: str, name: str, content: bytes) -> None:
        """Write a file of a task whole or not at all."""
        target = self._folder / "models" / _task_folder(task) / name
        with _disk():
            target.parent.mkdir(exist_ok=True)
            write_file(target, content)
            sync_folder(target.parent.parent)

    def read(self, task: str, name: str, *, offset: int = 0, size: int = -1) -> bytes:
        """Read a task's file, or `size` bytes of it from `offset` on.

        Raises:
            NotFoundError: BLOB_MISSING; the aggregator's disk lost a file.
        """
        try:
            with (self._folder / "models" / _task_folder(task) / name).open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError as error:
            raise NotFoundError(
                "BLOB_MISSING",
                f"the file {name} of {task} is gone; the aggregator's operator has to restore it",
            ) from error

    def delete(self, task: str, name: str) -> None:
        """Delete a task's file if it is there."""
        (self._folder / "models" / _task_folder(task) / name).unlink(missing_ok=True)

    def _inputs(self, key: RoundKey) -> Path:
        return self._folder / "inputs" / _task_folder(key.task) / f"{key.number}-{key.attempt}"
