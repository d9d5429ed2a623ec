"""The daemon: takes part in every task that the policy allows, until it is told to stop."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress

from finsecure_crypto.errors import FinSecureError
from finsecure_rpc.logs import get_logger

from finsecure_client import sdk
from finsecure_client.config import ClientConfig
from finsecure_client.policy import Policy
from finsecure_client.terms import Task
from finsecure_client.trainer import Trainer

# The wire contract lets one stream follow so many.
_MOST_TASKS = 100

log = get_logger(__name__)


async def run(config: ClientConfig) -> None:
    """Run until SIGTERM or SIGINT, then leave the open rounds and return.

    Raises:
        ConfigurationError: where configuration, trainer or identity are not in order.
        AuthenticationError: CERTIFICATE_EXPIRED, CERTIFICATE_REVOKED.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    taking_part = asyncio.create_task(_take_part(config))
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait([taking_part, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    taking_part.cancel()  # nothing happens where it has failed already
    with suppress(asyncio.CancelledError):
        await taking_part
    log.info("client stopped")


async def _take_part(config: ClientConfig) -> None:
    trainer = config.make_trainer()
    async with sdk.connect(config, patient=True) as client:
        log.info("client started", client=client.id, federation=config.client.federation)
        tasks = AllowedTasks(client, config.make_policy(), trainer)
        await client.participation(trainer).run(tasks.wanted)


class AllowedTasks:
    """Chooses the open tasks that the policy allows and the trainer is prepared for."""

    def __init__(self, client: sdk.Client, policy: Policy, trainer: Trainer) -> None:
        self._client = client
        self._policy = policy
        self._trainer = trainer
        self._refused: set[str] = set()
        self._ready: set[str] = set()
        self._trusting = True

    async def wanted(self) -> Sequence[str]:
        """Return the resource names of the tasks to take part in now.

        There are none once the key service's audit log has lied: whoever rewrites what it decided
        may have certified anybody.
        """
        try:
            self._client.audit.check()
        except FinSecureError as error:
            if self._trusting:
                log.error("no round is taken part in any more; ask the operator", error=str(error))
            self._trusting = False
            return []
        chosen = []
        for status in await self._client.tasks():
            name = status.task.name
            if not status.open or name in self._refused or not self._policy.allows_name(name):
                continue
            if name in self._ready or await self._prepare(status.task):
                chosen.append(name)
        if len(chosen) > _MOST_TASKS:
            log.warning("too many tasks; the rest waits", taken=_MOST_TASKS, allowed=len(chosen))
        return chosen[:_MOST_TASKS]

    async def _prepare(self, task: Task) -> bool:
        """Check a new task and prepare for it; what is wrong is said once, not at every look."""
        loop = asyncio.get_running_loop()
        try:
            self._policy.check_task(task)
            await loop.run_in_executor(self._client.worker, self._trainer.prepare, task)
        except Exception as error:  # the model's code is the user's: it must not end the daemon
            if not isinstance(error, FinSecureError):
                log.exception("task not prepared", task=task.name)
            log.error(
                "task refused; restart the client when this is put right",
                task=task.name,
                error=str(error),
            )
            self._refused.add(task.name)
            return False
        self._ready.add(task.name)
        log.info("task prepared", task=task.name)
        return True
