"""Services as processes: find their commands, start them, wait for them, stop them."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from finsecure_crypto.errors import ConfigurationError, FinSecureError, UnavailableError

SERVERS = ("keyservice", "aggregator")
_READY_S = 60.0
_STOP_S = 15.0
_POLL_S = 0.05
_LAST_BYTES = 8192


class CommandFailedError(FinSecureError):
    """A command that was run to its end failed and said why."""


def command_path(name: str) -> Path:
    """Find one of the project's commands: beside the running interpreter, else on the path.

    Raises:
        ConfigurationError: COMMAND_MISSING.
    """
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return beside
    found = shutil.which(name)
    if found is None:
        raise ConfigurationError(
            "COMMAND_MISSING", f"the command {name} is not installed; install finsecure anew"
        )
    return Path(found)


async def run_command(arguments: Sequence[str], *, stdin: bytes = b"") -> str:
    """Run one of the project's commands to its end.

    Args:
        arguments: name of the command and its arguments.
        stdin: what it reads, such as an API key, which must not be among the arguments.

    Returns:
        What it printed.

    Raises:
        CommandFailedError: COMMAND_FAILED with the command's own words.
    """
    name, *rest = arguments
    return await _run(str(command_path(name)), rest, " ".join(arguments[:2]), stdin)


async def run_python(arguments: Sequence[str]) -> str:
    """Run a Python script to its end; as `run_command` otherwise."""
    return await _run(sys.executable, arguments, Path(arguments[0]).name, b"")


async def _run(program: str, arguments: Sequence[str], title: str, stdin: bytes) -> str:
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await process.communicate(stdin)
    if process.returncode != 0:
        reason = _reason(errors.decode(errors="replace"))
        raise CommandFailedError("COMMAND_FAILED", f"`{title}`: {reason}")
    return output.decode(errors="replace")


class ServiceProcess:
    """One long-running process whose output goes to a log file.

    Args:
        name: for people and for the log file.
        arguments: name of the command and its arguments.
        log: file that output is appended to; its folder is made if need be.
    """

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process has been started and not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Exit status of a process that has ended; negative: the signal that ended it."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    def start(self) -> None:
        """Start the process, in a session of its own so that Ctrl-C reaches only its parent."""
        command, *rest = self._arguments
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [command_path(command), *rest],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    async def wait_until_listening(self, *addresses: str) -> None:
        """Wait until all addresses accept connections.

        Raises:
            UnavailableError: SERVICE_DIED with its last words, or SERVICE_NOT_READY.
        """
        deadline = asyncio.get_running_loop().time() + _READY_S
        for address in addresses:
            while not await _accepts(address):
                if not self.running:
                    raise self.died()
                if asyncio.get_running_loop().time() > deadline:
                    raise UnavailableError(
                        "SERVICE_NOT_READY",
                        f"{self.name} does not listen on {address} after {_READY_S:g} s; look "
                        f"into {self.log}",
                    )
                await asyncio.sleep(_POLL_S)

    def died(self) -> UnavailableError:
        """Return the error that tells why the process ended."""
        with self.log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _LAST_BYTES))
            reason = _reason(stream.read().decode(errors="replace"))
        return UnavailableError(
            "SERVICE_DIED", f"{self.name} ended with status {self.exit_code}: {reason} ({self.log})"
        )

    def kill(self) -> None:
        """End the process at once, as a power cut would."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    async def stop(self) -> None:
        """Ask the process to end, and end it if it does not."""
        if self._process is None or not self.running:
            return
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, _STOP_S)
        self.kill()


async def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:
        return False
    writer.close()
    return True


def _reason(output: str) -> str:
    """Return the error line of a command's output, else its last line."""
    # Usage errors come in a frame of lines.
    lines = [line.strip(" ╭╮╰╯│─") for line in output.splitlines()]
    lines = [line for line in lines if line]
    errors = [line.removeprefix("error:").strip() for line in lines if line.startswith("error:")]
    return (errors or lines or ["it gave no reason"])[-1]
