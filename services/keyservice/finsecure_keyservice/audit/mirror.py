"""The second copy of the log: an append-only file, on storage that another host owns.

The file follows the database within a second. When it cannot be written, decisions go on for a
bounded number of events and then stop: a log that only its own host has can be cut unseen.
"""

import asyncio
from contextlib import suppress
from pathlib import Path

from finsecure_crypto.errors import FinSecureError, IntegrityError, UnavailableError
from finsecure_rpc.log_file import LogFile
from finsecure_rpc.logs import get_logger
from sqlalchemy import Connection

from finsecure_keyservice.audit.signed_log import SignedLog
from finsecure_keyservice.decisions import Transactions

_log = get_logger(__name__)
_BATCH = 1000
_POLL_S = 0.5
MOST_BEHIND = 1000
"""Events that may be in the database alone."""


class AuditMirror:
    """Follows one log into one file.

    Args:
        books: where the log is.
        log: the log with its keys.
        path: the file.
    """

    def __init__(self, books: Transactions, log: SignedLog, path: Path) -> None:
        self._books = books
        self._signed = log
        self._log = log.log
        self._path = path
        self._file: LogFile | None = None
        self._size = 0
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.healthy = True

    async def start(self) -> None:
        """Open the file, compare it with the database, write what it lacks, and go on so.

        Raises:
            IntegrityError: AUDIT_LOG_ROLLED_BACK or AUDIT_LOG_FORKED when the database is not
                the one that the file was copied from, such as a restored snapshot; whoever
                touched either.
            UnavailableError: AUDIT_MIRROR_UNAVAILABLE.
        """
        await self._follow()
        self._task = asyncio.create_task(self._run())

    def admit(self, size: int) -> None:
        """Refuse a decision that would leave too many events without a second copy.

        Raises:
            UnavailableError: AUDIT_MIRROR_BEHIND.
        """
        if size - self._size > MOST_BEHIND:
            raise UnavailableError(
                "AUDIT_MIRROR_BEHIND",
                f"{size - self._size} events are not in the second copy of the audit log, so "
                "nothing more is decided: the operator has to see why that file cannot be written.",
            )

    async def stop(self) -> None:
        """Copy the last events, where the file can be written, and close it."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        self._close()

    async def _run(self) -> None:
        # Ends by a flag: who cancels a thread that writes would not know what it wrote.
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _POLL_S)
            try:
                await self._follow()
                self.healthy = True
            except FinSecureError as error:
                if self.healthy:
                    _log.error("audit log not copied; it is tried again", error=str(error))
                self.healthy = False

    async def _follow(self) -> None:
        if self._file is None:
            try:
                self._file = await asyncio.to_thread(LogFile, self._path)
            except OSError as error:
                raise _unavailable(self._path) from error
            try:
                await self._books.transact(self._compare)
            except Exception:
                self._close()  # nothing is written behind what was not compared
                raise
        while await self._copy(self._file):
            pass

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # closing writes once more what could not be written
                self._file.close()
            self._file = None

    async def _copy(self, file: LogFile) -> bool:
        batch = await self._books.transact(
            lambda connection: self._signed.batch(connection, file.size, _BATCH, file.signed)
        )
        leaves = [entry.leaf for entry in batch.entries]
        try:
            await asyncio.to_thread(file.append, leaves, batch.note)
        except Exception as error:
            # It may hold half a line now, which opening it again cuts off; or it has refused an
            # event and counts those before it that were not written.
            self._close()
            if isinstance(error, OSError):
                raise _unavailable(self._path) from error
            raise
        self._size = file.size
        return file.size < batch.size

    def _compare(self, connection: Connection) -> None:
        file = self._file
        assert file is not None  # noqa: S101  # just opened
        size = self._log.edge(connection).size
        if file.size > size:
            raise IntegrityError(
                "AUDIT_LOG_ROLLED_BACK",
                f"{self._path} has {file.size} events and the database only {size}: the database "
                "is an older copy. Restore a newer one, or move the file away as evidence.",
            )
        known = file.checkpoint
        if known is not None and self._log.tree(connection, known.size).root != known.root:
            raise IntegrityError(
                "AUDIT_LOG_FORKED",
                f"{self._path} is not a copy of the log in this database: one of them was "
                "changed. Move the file away as evidence.",
            )
        self._size = file.size


async def started(books: Transactions, log: SignedLog, path: Path | None) -> AuditMirror | None:
    """A mirror that follows, or None where the owner has named no file.

    Raises:
        IntegrityError, UnavailableError: as `AuditMirror.start`.
    """
    if path is None:
        _log.warning("the audit log has no second copy; name one with `audit_file`")
        return None
    mirror = AuditMirror(books, log, path)
    await mirror.start()
    return mirror


def _unavailable(path: Path) -> UnavailableError:
    return UnavailableError(
        "AUDIT_MIRROR_UNAVAILABLE", f"{path} cannot be written: look at its disk and its owner."
    )
