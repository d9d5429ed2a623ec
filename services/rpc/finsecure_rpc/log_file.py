"""An audit log in an append-only file: events and signed checkpoints as lines of JSON.

The file is a second copy, best kept on another machine. It is verified when it is opened, and
what is appended has to fit behind what it holds. Its checkpoints have to be signed by the keys that
the log itself names; that this is the true log is for the caller to compare, by a checkpoint.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from finsecure_crypto.checkpoint import Checkpoint
from finsecure_crypto.log_export import ExportReader, checkpoint_line

from finsecure_rpc.durable import sync_folder


class LogFile:
    """One file, open for appending.

    Args:
        path: the file; made if it is missing.
        remembered: a checkpoint from elsewhere that the file has to agree with when it gets there.

    Raises:
        IntegrityError: the file is not a true copy of the log: AUDIT_EVENT_MALFORMED,
            AUDIT_LOG_FORKED, AUDIT_LOG_ROLLED_BACK, CHECKPOINT_MALFORMED, CHECKPOINT_UNTRUSTED,
            AUDIT_KEY_CHANGE_INVALID, AUDIT_KEY_UNKNOWN.
        OSError: it cannot be used.
    """

    def __init__(self, path: Path, remembered: Checkpoint | None = None) -> None:
        self._reader = ExportReader(remembered)
        created = not path.exists()
        self._file = path.open("a+b")
        try:
            self._read()
            if created:
                sync_folder(path.resolve().parent)
        except BaseException:
            self._file.close()
            raise

    @property
    def size(self) -> int:
        """How many events the file holds."""
        return self._reader.size

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last checkpoint in it."""
        return self._reader.checkpoint

    @property
    def signed(self) -> int:
        """How many events have a checkpoint behind them."""
        return 0 if self.checkpoint is None else self.checkpoint.size

    def append(self, leaves: Sequence[bytes], note: str) -> None:
        """Append the next events, and a signed checkpoint behind them unless `note` is empty.

        They are on disk when this returns.

        Raises:
            IntegrityError: they do not fit behind what the file holds; nothing was written.
            OSError: the file cannot be written.

        After either the file has to be closed, and opened anew: `size` may count what is not in it.
        """
        for leaf in leaves:
            self._reader.take_event(leaf)
        lines, signed = list(leaves), self.signed
        if note and self._reader.take_note(note).size > signed:
            lines.append(checkpoint_line(note))
        if lines:
            self._file.write(b"".join(line + b"\n" for line in lines))
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self) -> None:
        whole = 0
        self._file.seek(0)
        for line in self._file:
            if not line.endswith(b"\n"):
                break  # torn by a crash: it was never acknowledged
            self._reader.take(line[:-1])
            whole += len(line)
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)
