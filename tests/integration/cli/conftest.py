"""Runs the command line as a person would: as processes."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from finsecure_cli.processes import command_path

Run = Callable[..., subprocess.CompletedProcess[str]]


class Up:
    """`finsecure up` on a folder, in the background."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start and return what is printed until everything is ready."""
        self._process = subprocess.Popen(
            [command_path("finsecure"), "up", str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            said += line
            if line.startswith("ready"):
                return said
        raise AssertionError(said)

    def stop(self) -> int:
        """Ask it to end, as Ctrl-C does; returns its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=60)
        return self._process.returncode


@pytest.fixture(scope="module")
def finsecure(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command to its end, in a folder of its own."""
    folder = tmp_path_factory.mktemp("work")

    def run(
        *arguments: str, timeout: float = 60, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command_path("finsecure"), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=folder,
            env={**os.environ, **environment},
            check=False,
        )

    return run


def prepared(folder: Path, finsecure: Run) -> Up:
    """A federation without clients that has its configuration files, and free ports in them."""
    sockets = [socket.socket() for _ in range(3)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    made = finsecure(
        "init", str(folder), "--federation", "lending", "--clients", "bank-a,bank-b",
        "--keyservice-port", ports[0], "--enrol-port", ports[1], "--aggregator-port", ports[2],
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return Up(folder)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, finsecure: Run) -> Iterator[Up]:
    """A running federation without clients."""
    running = prepared(tmp_path_factory.mktemp("federation") / "lending", finsecure)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def operator(up: Up, finsecure: Run) -> Run:
    """The command line with the operator's configuration."""
    config = str(up.folder / "operator.toml")

    def run(*arguments: str, **options: object) -> object:
        return finsecure(*arguments, FINSECURE_CONFIG=config, **options)

    return run  # type: ignore[return-value]
