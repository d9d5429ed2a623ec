"""`finsecure-keyservice` as a real process, to be killed."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from finsecure_crypto.certificates import Role
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.connection import Connection
from finsecure_rpc.identity_store import IdentityStore
from grpc_health.v1 import health_pb2, health_pb2_grpc

# Runs the command unchanged, except that the process kills itself as soon as a transaction is
# committed while the marker file exists: after the commit, before the reply.
KILLED_AFTER_COMMIT = """
import os, pathlib, signal
from finsecure_keyservice import books, main
publish = books.RevocationFeed.publish
def publish_or_die(feed, record):
    if pathlib.Path(os.environ["KILL_MARKER"]).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    publish(feed, record)
books.RevocationFeed.publish = publish_or_die
main.main()
"""


class Process:
    """`finsecure-keyservice` on free ports, with everything that it ever wrote."""

    def __init__(self, folder: Path, database: str, more: str = "") -> None:
        self.folder = folder
        self.database = database
        self.marker = folder / "kill"
        self.log = folder / "log"
        self.config = folder / "keyservice.toml"
        self.ports = _free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None
        self.printed = ""
        self.config.write_text(
            f'domain = "finsecure.test"\nstate_dir = "state"\ndatabase = "{database}"\n'
            f'listen = "127.0.0.1:{self.ports[0]}"\nenrol_listen = "127.0.0.1:{self.ports[1]}"\n'
            f'log_level = "DEBUG"\n{more}'
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports[0]}"

    @property
    def enrol_address(self) -> str:
        return f"127.0.0.1:{self.ports[1]}"

    @property
    def root_pem(self) -> bytes:
        return (self.folder / "state" / "root.pem").read_bytes()

    def command(self, *arguments: str, typed: str = "") -> str:
        return self.run(sys.executable, "-m", "finsecure_keyservice", *arguments, typed=typed)

    def run(self, *command: str, typed: str = "") -> str:
        done = subprocess.run(
            command, capture_output=True, input=typed, text=True, check=True, timeout=120
        )
        return done.stdout + done.stderr

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", KILLED_AFTER_COMMIT, "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env={**os.environ, "KILL_MARKER": str(self.marker)},
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def wait_for_death(self) -> None:
        assert self.process is not None
        assert self.process.wait(timeout=20) == -signal.SIGKILL
        self.marker.unlink()

    async def ready(self) -> None:
        async with open_anonymous_channel(self.enrol_address, self.root_pem) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=30, wait_for_ready=True
            )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING

    def connect(self, store: IdentityStore) -> Connection:
        return Connection(self.address, store, Role.KEYSERVICE)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
