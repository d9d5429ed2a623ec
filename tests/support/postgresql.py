"""A private PostgreSQL server for each test process, with a fresh database for each test."""

import atexit
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import pytest

BINARIES = next(
    (
        folder
        for folder in (
            *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
            *(Path(found).parent for found in filter(None, [shutil.which("initdb")])),
        )
        if (folder / "initdb").exists() and (folder / "postgres").exists()
    ),
    None,
)

needs_postgresql = pytest.mark.skipif(
    BINARIES is None, reason="PostgreSQL's programs are missing: apt-get install postgresql"
)

# The tests that run on every database: `@pytest.mark.parametrize("database_url", DATABASES)`.
DATABASES = ("sqlite", pytest.param("postgresql", marks=needs_postgresql))
_START_S = 120.0


def database_of(kind: str, folder: Path) -> str:
    """The URL of a fresh database: a file in a test's folder, or one of the private server's."""
    return str(folder / "keyservice.db") if kind == "sqlite" else new_database()


def new_database() -> str:
    """Make an empty database on this process' server."""
    server = _server()
    name = f"t{uuid.uuid4().hex[:12]}"
    server.run("psql", "-q", "-d", "postgres", "-c", f"CREATE DATABASE {name}")
    return f"postgresql://finsecure@/{name}?host={server.folder}"


def dump(url: str) -> bytes:
    """Everything that a database holds, as SQL; bytes are hexadecimal in it."""
    return _server().run("pg_dump", "--inserts", _name(url))


def copy(url: str) -> str:
    """Copy a database that nobody uses; returns the URL of the copy."""
    target = new_database()
    overwrite(url, target)
    return target


def overwrite(source: str, target: str) -> None:
    """Replace a database that nobody uses by the copy of another."""
    statements = (
        f"DROP DATABASE {_name(target)} WITH (FORCE)",
        f"CREATE DATABASE {_name(target)} TEMPLATE {_name(source)}",
    )
    for statement in statements:
        _server().run("psql", "-q", "-d", "postgres", "-c", statement)


def _name(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


class Server:
    """A server on a socket of its own; nothing listens on a port."""

    def __init__(self) -> None:
        assert BINARIES is not None
        # PostgreSQL refuses to run as root, so root lends it to somebody without rights.
        self._user = _unprivileged() if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="finsecure-pg-", dir="/tmp"))
        if self._user is not None:
            os.chown(self.folder, self._user, -1)
        data = self.folder / "data"
        self.run(
            "initdb",
            *("-D", str(data), "-A", "trust", "-U", "finsecure", "-E", "UTF8", "--no-locale"),
            "--no-sync",
            connect=False,
        )
        # Without fsync a killed server loses nothing, only a machine that loses its power does.
        settings = ("fsync=off", "listen_addresses=", f"unix_socket_directories={self.folder}")
        self._log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [
                str(BINARIES / "postgres"),
                *("-D", str(data)),
                *(part for setting in settings for part in ("-c", setting)),
            ],
            stdout=self._log,
            stderr=self._log,
            cwd=self.folder,
            user=self._user,
        )
        atexit.register(self.stop)
        self._wait()

    def run(self, program: str, *arguments: str, connect: bool = True) -> bytes:
        """Run one of PostgreSQL's programs and return what it prints."""
        assert BINARIES is not None
        where = ("-h", str(self.folder), "-U", "finsecure") if connect else ()
        done = subprocess.run(
            [str(BINARIES / program), *where, *arguments],
            capture_output=True,
            check=False,
            timeout=_START_S,
            cwd=self.folder,
            user=self._user,
        )
        if done.returncode:
            raise AssertionError(f"{program} failed: {done.stderr.decode()}")
        return done.stdout

    def stop(self) -> None:
        """End the server and remove everything."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self) -> None:
        end = time.monotonic() + _START_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.run("psql", "-q", "-d", "postgres", "-c", "SELECT 1")
            except AssertionError:
                time.sleep(0.05)
            else:
                return
        log = (self.folder / "log").read_text()
        self.stop()
        raise AssertionError(f"PostgreSQL did not start: {log}")


@functools.cache
def _server() -> Server:
    return Server()


def _unprivileged() -> int:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise AssertionError("there is no user `postgres` or `nobody` to run PostgreSQL as")
