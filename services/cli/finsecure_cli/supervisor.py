"""Keep processes running: start again what ends, stop all in the end."""

import asyncio
from collections.abc import Callable

from finsecure_rpc.console import ExitCode

from finsecure_cli.processes import SERVERS, ServiceProcess

_LOOK_S = 0.2
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_STEADY_S = 60.0


class Supervisor:
    """The processes of one federation.

    Args:
        say: is told in words what happens.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._processes: list[ServiceProcess] = []

    def add(self, process: ServiceProcess) -> None:
        """Take charge of a process that has been started."""
        self._processes.append(process)

    async def watch(self) -> None:
        """Start processes again that end, with a growing pause, until cancelled.

        Raises:
            UnavailableError: SERVICE_DIED, where a process refused its configuration: starting it
                again would not help.
        """
        keepers = [asyncio.create_task(self._keep(process)) for process in self._processes]
        try:
            await asyncio.gather(*keepers)
        finally:
            for keeper in keepers:
                keeper.cancel()

    async def _keep(self, process: ServiceProcess) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_S
        since = loop.time()
        while True:
            await asyncio.sleep(_LOOK_S)
            if process.running:
                continue
            error = process.died()
            if process.exit_code in {ExitCode.USAGE, ExitCode.REFUSED}:
                raise error
            if loop.time() - since > _STEADY_S:
                pause = _FIRST_PAUSE_S
            self._say(f"{error.message}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            since = loop.time()
            process.start()

    async def stop(self) -> None:
        """Stop all processes: the clients together, then the servers that they need."""
        clients = [process for process in self._processes if process.name not in SERVERS]
        await asyncio.gather(*(process.stop() for process in clients))
        for process in reversed(self._processes):
            await process.stop()
