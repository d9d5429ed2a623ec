"""A whole key service in this process, over real gRPC and TLS on free ports of the loopback."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from finsecure.keyservice.v1 import members_pb2 as members
from finsecure.keyservice.v1 import members_pb2_grpc as members_grpc
from finsecure_crypto.certificates import Role
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.clock import system_clock
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.founding import Founded, found
from finsecure_keyservice.local_api_keys import issue_locally
from finsecure_keyservice.names import MemberName
from finsecure_keyservice.protection.settings import RootToken
from finsecure_keyservice.serving import opened
from finsecure_rpc.connection import Connection
from finsecure_rpc.enrolment import enrol
from finsecure_rpc.identity_store import IdentityStore

from tests.support import postgresql

LENDING = "federations/lending"
BANK = f"{LENDING}/clients/bank-1"


@dataclass
class SkewedClock:
    """The machine's time, set forward or back."""

    skew: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return system_clock() + self.skew


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass
class Deployment:
    """A key service with its first operator, as the operator sees it."""

    folder: Path
    configuration: Configuration
    founded: Founded
    clock: SkewedClock
    stack: AsyncExitStack
    ports: tuple[int, ...] = ()
    operator: Connection = field(init=False)
    running: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports[0]}"

    @property
    def enrol_address(self) -> str:
        return f"127.0.0.1:{self.ports[1]}"

    @property
    def root_pem(self) -> bytes:
        return self.founded.root.read_bytes()

    async def start(self) -> None:
        server = await self.running.enter_async_context(opened(self.configuration, self.clock))
        await server.start()
        self.running.push_async_callback(server.stop, 0.2)
        self.ports = server.ports

    async def stop(self) -> None:
        await self.running.aclose()

    def snapshot(self) -> str:
        """Copy the database of a key service that was stopped."""
        url = self.configuration.database
        if url.startswith("sqlite:///"):
            source = Path(url.removeprefix("sqlite:///"))
            return str(shutil.copy(source, source.with_suffix(".snapshot")))
        return postgresql.copy(url)

    def restore(self, snapshot: str) -> None:
        """Put a copy in the place of the database of a key service that was stopped."""
        url = self.configuration.database
        if url.startswith("sqlite:///"):
            target = Path(url.removeprefix("sqlite:///"))
            for path in target.parent.glob(f"{target.name}*"):
                path.unlink()
            shutil.copy(snapshot, target)
        else:
            postgresql.overwrite(snapshot, url)

    async def restart(self) -> None:
        """Start again, and connect the operator to the new ports."""
        await self.start()
        self.operator = self.connect(IdentityStore(self.folder / "members" / "alice"))

    async def enrol(self, name: str, api_key: str) -> IdentityStore:
        folder = self.folder / "members" / name
        await enrol(self.enrol_address, self.root_pem, SecretBytes(api_key.encode()), folder)
        return IdentityStore(folder)

    def connect(self, store: IdentityStore) -> Connection:
        connection = Connection(self.address, store, Role.KEYSERVICE)
        self.stack.push_async_callback(connection.close)
        return connection

    def issue_locally(self, name: str) -> str:
        """Make an API key as on the key service's machine, of a member that may be new."""
        file = self.folder / f"{name.replace('/', '-')}.api-key"
        file.unlink(missing_ok=True)
        issue_locally(self.configuration, MemberName.parse(name), file, self.clock())
        return file.read_text().strip()

    async def create(self, name: str) -> str:
        """Register a member and return its API key; a trustee as on the key service's machine."""
        if "/trustees/" in name:
            return await asyncio.to_thread(self.issue_locally, name)
        response = await self.operator.call(
            self.operator.stub(members_grpc.MemberServiceStub).CreateMember,
            members.CreateMemberRequest(member=members.Member(name=name), request_id=new_id()),
        )
        key: str = response.api_key
        return key

    async def officer(self, name: str) -> Connection:
        """Make a security officer as on the key service's machine, enrol it, connect as it."""
        key = await asyncio.to_thread(self.issue_locally, f"officers/{name}")
        return self.connect(await self.enrol(f"officers/{name}", key))

    async def member(self, name: str) -> Connection:
        """Register and enrol a member, and connect as it."""
        return self.connect(await self.enrol(name, await self.create(name)))


@asynccontextmanager
async def deployed(
    folder: Path,
    skew: timedelta = timedelta(0),
    root_key: Path | RootToken | None = None,
    **settings: Any,
) -> AsyncIterator[Deployment]:
    settings.setdefault("database", str(folder / "keyservice.db"))
    configuration = Configuration(
        domain="finsecure.test",
        listen="127.0.0.1:0",
        enrol_listen="127.0.0.1:0",
        state_dir=folder / "state",
        **settings,
    )
    clock = SkewedClock(skew)
    founded = found(configuration, "alice", "lending", root_key, clock())
    async with AsyncExitStack() as stack:
        deployment = Deployment(folder, configuration, founded, clock, stack)
        stack.push_async_callback(deployment.stop)
        await deployment.start()
        store = await deployment.enrol("alice", founded.api_key.read_text().strip())
        deployment.operator = deployment.connect(store)
        yield deployment
