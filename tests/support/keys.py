"""What the tests of managed keys share: a store in memory, and a life without a service."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from finsecure_keyservice.decisions import Auditor
from finsecure_keyservice.federations import create_federation
from finsecure_keyservice.keys import lookup, registry
from finsecure_keyservice.keys.life import KeyLife
from finsecure_keyservice.keys.material import Material
from finsecure_keyservice.keys.records import CryptoKey, KeyAlgorithm, KeyPurpose, KeyVersion
from finsecure_keyservice.keys.registry import KeyWish
from finsecure_keyservice.keys.store import KeyStore
from finsecure_keyservice.protection.opening import create_vault
from finsecure_keyservice.protection.settings import FileProtection
from sqlalchemy import Connection

from tests.support.keyservice import DOMAIN, LOG, SEAL_KEY, START, Books, MovableClock, store, trail

LENDING = "federations/lending"
RING = f"{LENDING}/keyRings/models"
KEY = f"{RING}/cryptoKeys/global"
T = TypeVar("T")


@dataclass
class Keys:
    """Managed keys in memory, with a clock that the test moves."""

    folder: Path
    books: Books = field(default_factory=Books)
    clock: MovableClock = field(default_factory=MovableClock)
    material: Material = field(init=False)
    life: KeyLife = field(init=False)

    def __post_init__(self) -> None:
        vault = create_vault(FileProtection(kind="file", key_file=self.folder / "kek"))
        self.material = Material(vault)
        auditor = Auditor(LOG, SEAL_KEY, self.clock)
        self.life = KeyLife(self, auditor, self.material, f"spiffe://{DOMAIN}/keyservice/main")  # type: ignore[arg-type]
        with self.books.engine.begin() as connection:
            create_federation(store(connection), LENDING, "", START)
        with self.transaction() as keys:
            registry.create_ring(keys, RING, START)

    async def transact(self, act: Callable[[Connection], T]) -> T:
        with self.books.engine.begin() as connection:
            return act(connection)

    @contextmanager
    def transaction(self) -> Iterator[KeyStore]:
        with self.books.engine.begin() as connection:
            yield KeyStore(connection, trail(connection))

    async def create(
        self,
        algorithm: KeyAlgorithm = KeyAlgorithm.ED25519,
        purpose: KeyPurpose = KeyPurpose.MODEL_SIGNING,
        name: str = KEY,
        **wishes: object,
    ) -> CryptoKey:
        """Make a key whose first version is enabled."""
        with self.transaction() as keys:
            registry.create_key(keys, KeyWish(name, purpose, algorithm, **wishes), self.clock.now)  # type: ignore[arg-type]
        await self.life.tick()
        return self.key(name)

    async def rotate(self, name: str = KEY) -> KeyVersion:
        with self.transaction() as keys:
            made = registry.rotate(keys, name, None, None, self.clock.now)
        await self.life.tick()
        return self.version(made.number, name)

    def key(self, name: str = KEY) -> CryptoKey:
        with self.transaction() as keys:
            return lookup.get_key(keys, name)

    def version(self, number: int, name: str = KEY) -> KeyVersion:
        with self.transaction() as keys:
            return lookup.get_version(keys, f"{name}/cryptoKeyVersions/{number}")
