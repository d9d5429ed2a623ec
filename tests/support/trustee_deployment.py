"""A whole trustee in this process, enrolled at a key service and started as its command does."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finsecure_crypto.certificates import Role
from finsecure_keyservice.protection.opening import create_kek
from finsecure_keyservice.protection.settings import FileProtection
from finsecure_keyservice.trustee.config import Configuration
from finsecure_keyservice.trustee.serving import opened
from finsecure_rpc.connection import Connection
from finsecure_rpc.identity_store import IdentityStore

from tests.support.keyservice_deployment import LENDING, Deployment

NORTH = f"{LENDING}/trustees/north"


@dataclass
class DeployedTrustee:
    """A trustee that has enrolled, as its owner and the operator see it."""

    configuration: Configuration
    operator: IdentityStore

    @property
    def database(self) -> Path:
        return Path(self.configuration.database.removeprefix("sqlite:///"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Connection]:
        """Start it, and connect as the operator."""
        async with opened(self.configuration) as server:
            await server.start()
            try:
                async with Connection(
                    f"127.0.0.1:{server.ports[0]}",
                    self.operator,
                    Role.TRUSTEE,
                    federation="lending",
                ) as connection:
                    yield connection
            finally:
                await server.stop(0.2)

    def snapshot(self) -> Path:
        """Copy the database of a trustee that was stopped."""
        return Path(shutil.copy(self.database, self.database.with_suffix(".snapshot")))

    def restore(self, snapshot: Path) -> None:
        """Put a copy in the place of the database of a trustee that was stopped."""
        for path in self.database.parent.glob(f"{self.database.name}*"):
            path.unlink()
        shutil.copy(snapshot, self.database)


async def enrolled_trustee(
    keyservice: Deployment, folder: Path, **settings: Any
) -> DeployedTrustee:
    protection = settings.pop(
        "protection", FileProtection(kind="file", key_file=folder / "wrapping.key")
    )
    create_kek(protection)
    await keyservice.enrol(NORTH, await keyservice.create(NORTH))
    configuration = Configuration.model_validate(
        {
            "federation": "lending",
            "identity_dir": keyservice.folder / "members" / NORTH,
            "root": keyservice.founded.root,
            "keyservice": keyservice.address,
            "keyservice_enrol": keyservice.enrol_address,
            "listen": "127.0.0.1:0",
            "database": f"sqlite:///{folder}/trustee.db",
            "protection": protection,
            **settings,
        }
    )
    return DeployedTrustee(configuration, IdentityStore(keyservice.folder / "members" / "alice"))
