"""Records what the guard refuses, before any service sees it: wrong roles, revoked certificates."""

import asyncio
from collections.abc import Callable

from finsecure_crypto.errors import FinSecureError
from finsecure_rpc.logs import get_logger
from sqlalchemy import Connection

from finsecure_keyservice.decisions import Auditor, Transactions, calling

_log = get_logger(__name__)


class RefusalRecorder:
    """Writes events of refusals in the background: to refuse needs nobody's permission.

    Args:
        books: where transactions run.
        auditor: opens trails and says how many refusals are recorded.
    """

    def __init__(self, books: Transactions, auditor: Auditor) -> None:
        self._books = books
        self._auditor = auditor
        self._running: set[asyncio.Task[None]] = set()

    def note(self, method: str, error: FinSecureError) -> None:
        """Record that the call that is being served was refused."""
        caller = calling()
        unrecorded = self._auditor.budget.take(caller.name)
        if unrecorded is None:
            return
        name = method.rpartition("/")[2]

        def record(connection: Connection) -> None:
            self._auditor.trail(connection, caller).refuse(name, "", error, unrecorded)

        task = asyncio.create_task(self._record(record))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def drain(self) -> None:
        """Wait until all that was noted is recorded."""
        await asyncio.gather(*self._running)

    async def _record(self, record: Callable[[Connection], None]) -> None:
        try:
            await self._books.transact(record)
        except FinSecureError as error:
            _log.error("a refusal was not recorded", reason=error.code)
