"""A federation of clients against a fake aggregator and a toy key service, over real mTLS."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from finsecure_client.config import (
    ClientConfig,
    ClientSettings,
    EgressSettings,
    PolicySettings,
)
from finsecure_client.instructions import Outcome
from finsecure_client.sdk import Client, connect
from finsecure_client.trainer import Trainer
from finsecure_rpc.identity_store import IdentityStore

from tests.support.client import TASK, ConstantTrainer, task_message
from tests.support.fake_aggregator import FakeAggregator, running_aggregator
from tests.support.pki import TestAuthority
from tests.support.toy_keyservice import ToyKeyService, running_keyservice

BANKS = ["bank-a", "bank-b", "bank-c", "bank-d"]


@dataclass
class Federation:
    """A running federation, and the clients that a test starts."""

    folder: Path
    pki: TestAuthority
    aggregator: FakeAggregator
    keyservice: ToyKeyService
    addresses: dict[str, str]
    tasks: dict[str, "asyncio.Task[object]"] = field(default_factory=dict)
    clients: dict[str, Client] = field(default_factory=dict)
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)

    def config(self, bank: str, **policy: object) -> ClientConfig:
        home = self.folder / bank
        if not (home / "identity" / "current").is_symlink():
            self.pki.enrol(home / "identity", "client", bank)
        return ClientConfig(
            client=ClientSettings(
                federation="lending",
                identity_dir=home / "identity",
                root=self.folder / "root.pem",
                state_dir=home / "state",
                poll_interval_s=0.1,
                **self.addresses,
            ),
            policy=PolicySettings(**{"tasks": ("*",), **policy}),
            egress=EgressSettings(manifest=home / "egress.jsonl"),
        )

    def start(self, bank: str, trainer: Trainer | None = None, **policy: object) -> None:
        """Start a client that joins the task."""
        self.tasks[bank] = asyncio.create_task(
            self._join(bank, trainer or ConstantTrainer(), policy)
        )

    def start_unchecked(self, bank: str, config: ClientConfig) -> None:
        """Start a client that watches the task whatever its policy says of it beforehand."""

        async def run() -> None:
            async def wanted() -> list[str]:
                return [TASK]

            async with connect(config) as client:
                await client.participation(ConstantTrainer(), lambda _, o: None).run(wanted)

        self.tasks[bank] = asyncio.create_task(run())

    def peer_serial(self, bank: str) -> int:
        """Serial number of a client's signing certificate."""
        return IdentityStore(self.folder / bank / "identity").current().signing.serial

    async def until_revoked(self, serial: int, banks: list[str]) -> None:
        """Wait until clients have heard of a revocation."""
        async with asyncio.timeout(5):
            for bank in banks:
                # There is no event to wait for: the watcher is the client's own.
                while serial not in self.clients[bank].trust.revocations().serials:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

    async def _join(self, bank: str, trainer: Trainer, policy: dict[str, object]) -> object:
        async with connect(self.config(bank, **policy)) as client:
            self.clients[bank] = client
            seen = self.outcomes.setdefault(bank, [])
            return await client.join("credit", trainer, on_outcome=lambda _, o: seen.append(o))

    async def stop(self, bank: str) -> None:
        task = self.tasks.pop(bank)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


Start = Callable[..., object]


@asynccontextmanager
async def running_federation(folder: Path, **task: object) -> AsyncIterator[Federation]:
    pki = TestAuthority()
    async with AsyncExitStack() as stack:
        keyservice, keys_rpc = await stack.enter_async_context(
            running_keyservice(folder / "keyservice", pki)
        )
        aggregator, rpc = await stack.enter_async_context(
            running_aggregator(folder / "aggregator", pki, task_message(**task))
        )
        (folder / "root.pem").write_bytes(pki.root.pem)
        federation = Federation(
            folder,
            pki,
            aggregator,
            keyservice,
            {
                "keyservice": f"127.0.0.1:{keys_rpc.ports[0]}",
                "keyservice_enrol": f"127.0.0.1:{keys_rpc.ports[1]}",
                "aggregator": f"127.0.0.1:{rpc.ports[0]}",
            },
        )
        try:
            yield federation
        finally:
            for bank in list(federation.tasks):
                await federation.stop(bank)
