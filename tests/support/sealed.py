"""A key service under a seal, in this process: closed and open, on free ports of the loopback."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from finsecure.keyservice.v1 import seal_pb2, seal_pb2_grpc
from finsecure_crypto.audit_event import Event
from finsecure_crypto.key_seal import OperatorShare
from finsecure_keyservice.clock import Clock
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.founding import found
from finsecure_keyservice.seal.serving import sealed_server
from finsecure_keyservice.seal.unsealing import LIFETIME, Unsealing
from finsecure_keyservice.serving import opened
from finsecure_rpc.call import call
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.database import open_database
from finsecure_rpc.server import RpcServer
from finsecure_rpc.unsealing import read_share

from tests.support.keyservice import LOG


@dataclass
class Closed:
    """A sealed service that runs."""

    unsealing: Unsealing
    server: RpcServer
    configuration: Configuration

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.ports[1]}"

    def channel(self) -> grpc.aio.Channel:
        root = self.configuration.state_dir / "root.pem"
        return open_anonymous_channel(self.address, root.read_bytes())

    async def give(self, channel: grpc.aio.Channel, share: str) -> seal_pb2.SealStatus:
        stub = seal_pb2_grpc.SealServiceStub(channel)
        answer = await call(stub.Unseal, seal_pb2.UnsealRequest(share=share), deadline_s=10)
        return answer.status


@dataclass
class Sealed:
    """A key service with `[seal]` and the shares of its operators."""

    configuration: Configuration
    shares: tuple[OperatorShare, ...]
    share_files: tuple[Path, ...]
    api_key: Path

    @classmethod
    def found(cls, folder: Path, clock: Clock, **settings: Any) -> "Sealed":
        configuration = sealed_configuration(folder, **settings)
        made = found(configuration, "alice", "lending", None, clock())
        shares = tuple(read_share(path) for path in made.shares)
        return cls(configuration, shares, made.shares, made.api_key)

    def events(self) -> list[Event]:
        """Everything in the audit log."""
        database = open_database(self.configuration.database)
        try:
            entries = database.run_sync(lambda connection: LOG.entries(connection, 0, 10_000))
        finally:
            database.close()
        return [Event.parse(entry.leaf) for entry in entries]

    @asynccontextmanager
    async def closed(self, lifetime: timedelta = LIFETIME) -> AsyncIterator[Closed]:
        unsealing = Unsealing(self.configuration.protected_by, lifetime=lifetime)
        server = sealed_server(self.configuration, unsealing)
        await server.start()
        try:
            yield Closed(unsealing, server, self.configuration)
        finally:
            await server.stop(0.2)
            unsealing.forget()

    @asynccontextmanager
    async def open(self, shares: Sequence[OperatorShare], clock: Clock) -> AsyncIterator[RpcServer]:
        """Unseal it as the closed server does, and serve."""
        unsealing = Unsealing(self.configuration.protected_by)
        for share in shares:
            unsealing.give(share.expose(), "ipv4:127.0.0.1")
        assert unsealing.unsealed is not None
        async with opened(self.configuration, clock, unsealing.unsealed) as server:
            await server.start()
            try:
                yield server
            finally:
                await server.stop(0.2)


def sealed_configuration(folder: Path, **settings: Any) -> Configuration:
    values = {
        "domain": "finsecure.test",
        "listen": "127.0.0.1:0",
        "enrol_listen": "127.0.0.1:0",
        "state_dir": folder / "state",
        "database": str(folder / "keyservice.db"),
        "seal": {"shares_dir": folder / "shares"},
        **settings,
    }
    return Configuration.model_validate(values)
