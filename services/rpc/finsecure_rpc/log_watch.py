"""Following the audit log in the background, for as long as a member takes part."""

import asyncio
from contextlib import suppress
from typing import Self

from finsecure_crypto.errors import ConfigurationError, FinSecureError, IntegrityError

from finsecure_rpc.audit import LogFollower
from finsecure_rpc.logs import get_logger

_log = get_logger(__name__)
INTERVAL_S = 900.0


class LogWatch:
    """Demands again and again that the log only grew; remembers when it did not.

    A key service that cannot be reached is no offence: the checkpoint that is remembered waits.

    Args:
        follower: follows the log.
        interval_s: seconds between two looks.
    """

    def __init__(self, follower: LogFollower, interval_s: float = INTERVAL_S) -> None:
        self._follower = follower
        self._interval_s = interval_s
        self._failure: FinSecureError | None = None
        self._task: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Return if the log was honest whenever it was looked at.

        Raises:
            IntegrityError: what `LogFollower.advance` found; the key service's fault. It stays
                until the owner has looked and restarts.
            ConfigurationError: AUDIT_MEMORY_DAMAGED.
        """
        if self._failure is not None:
            raise self._failure

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while self._failure is None:
            try:
                await self._follower.advance()
            except (IntegrityError, ConfigurationError) as error:
                _log.error("the audit log is not what it was", error=str(error))
                self._failure = error
            except FinSecureError as error:
                _log.warning("audit log not followed", error=str(error))
            except Exception:  # the watch must outlive whatever happens
                _log.exception("audit log not followed")
            await asyncio.sleep(self._interval_s)
