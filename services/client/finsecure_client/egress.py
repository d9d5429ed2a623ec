"""The egress manifest: a line for every field of every message that leaves this client.

A hook on each connection writes the lines before the message is serialised; what cannot be recorded
is not sent. The manifest holds lengths and SHA-256 digests, never contents, so it can be shown to
an auditor, who can compare it with a capture of the traffic before encryption. What gRPC itself
adds (paths, deadlines) and what TLS shows of the certificate is not a message and not in it.
"""

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from finsecure_crypto.errors import ConfigurationError, IntegrityError, InternalError
from google.protobuf.message import Message

from finsecure_client.egress_fields import fields, round_of

_LONGEST_LINE = 1 << 16
EGRESS_CODES = frozenset({"EGRESS_UNDESCRIBED", "EGRESS_NOT_RECORDED"})
"""Codes of the errors by which the manifest stops a message."""


@dataclass(frozen=True)
class Entry:
    """One line of the manifest: a field with when and where it went."""

    time: str
    destination: str
    method: str
    round: str
    path: str
    kind: str
    length: int
    sha256: str


class Manifest:
    """An append-only JSONL file; full files are set aside as `<name>.1`, `<name>.2`, ….

    Args:
        path: the file; its folder is made if need be.
        rotate_bytes: size from which a new file is begun.
        now: clock.
    """

    def __init__(
        self,
        path: Path,
        *,
        rotate_bytes: int = 64 << 20,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._now = now
        self._lock = threading.Lock()
        self._stream = self._open()

    def recorder(self, destination: str) -> Callable[[str, Message], None]:
        """Make the hook for a connection to `destination`: it gets each method and message.

        The messages of one stream belong to the round that its first message names, so streams
        of one connection must not overlap.
        """
        rounds: dict[str, str] = {}

        def record(method: str, message: Message) -> None:
            rounds[method] = round_of(message) or rounds.get(method, "")
            self.record(destination, method, rounds[method], message)

        return record

    def record(self, destination: str, method: str, round_name: str, message: Message) -> None:
        """Write a line for each field of a message that is about to be sent.

        Raises:
            InternalError: EGRESS_UNDESCRIBED, EGRESS_NOT_RECORDED; the message must not be sent.
        """
        time = self._now().isoformat(timespec="milliseconds")
        entries = [
            Entry(time, destination, method, round_name, **asdict(field))
            for field in fields(message)
        ]
        lines = "".join(
            json.dumps(asdict(entry), separators=(",", ":")) + "\n" for entry in entries
        )
        try:
            with self._lock:
                with _alone(self._stream.fileno()):
                    self._stream.write(lines)
                    self._stream.flush()
                if self._stream.tell() >= self._rotate_bytes:
                    self._rotate()
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Bring everything to disk and close the file.

        Raises:
            InternalError: EGRESS_NOT_RECORDED, where the last lines did not reach the disk.
        """
        with self._lock:
            if self._stream.closed:
                return
            try:
                self._sync()
            except OSError as error:
                raise self._failed(error) from error
            finally:
                with suppress(OSError):  # it tries to write the rest once more
                    self._stream.close()

    def _failed(self, error: Exception) -> InternalError:
        return InternalError(
            "EGRESS_NOT_RECORDED",
            f"the egress manifest {self._path} cannot be written ({error}), so nothing is sent; "
            "free space or correct [egress]",
        )

    def _open(self) -> TextIO:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
            with _alone(descriptor):
                _cut_partial_line(descriptor)
        except OSError as error:
            raise ConfigurationError(
                "EGRESS_NOT_RECORDED",
                f"the egress manifest {self._path} cannot be written ({error.strerror}); correct "
                "manifest in [egress]",
            ) from error
        return os.fdopen(descriptor, "a", encoding="utf-8")

    def _sync(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _rotate(self) -> None:
        self._sync()
        self._stream.close()
        number = max(_older(self._path), default=0) + 1
        self._path.rename(_numbered(self._path, number))
        self._stream = self._open()


@contextmanager
def _alone(descriptor: int) -> Iterator[None]:
    """Keep other processes with the same configuration from writing in between."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _cut_partial_line(descriptor: int) -> None:
    """Remove what a crash left of a line: lines are written before their message is sent."""
    size = os.fstat(descriptor).st_size
    length = min(size, _LONGEST_LINE)
    tail = os.pread(descriptor, length, size - length)
    if tail and not tail.endswith(b"\n"):
        os.ftruncate(descriptor, size - len(tail) + tail.rfind(b"\n") + 1)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _older(path: Path) -> list[int]:
    """Return the numbers of a manifest's set-aside files, oldest first."""
    suffixes = [
        part.name.removeprefix(f"{path.name}.") for part in path.parent.glob(f"{path.name}.*")
    ]
    return sorted(int(suffix) for suffix in suffixes if suffix.isdigit())


def read(path: Path) -> Iterator[Entry]:
    """Read a manifest with its older files; a last line cut off by a crash is left out.

    Raises:
        IntegrityError: EGRESS_MANIFEST_DAMAGED, where a line is none of this program's.
    """
    for part in [*(_numbered(path, number) for number in _older(path)), path]:
        if not part.exists():
            continue
        with part.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith("\n"):
                    return
                try:
                    yield Entry(**json.loads(line))
                except (ValueError, TypeError) as error:
                    raise IntegrityError(
                        "EGRESS_MANIFEST_DAMAGED", f"line {number} of {part} is no manifest entry"
                    ) from error
