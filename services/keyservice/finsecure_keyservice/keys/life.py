"""What happens to keys by themselves: versions are made, take over, are rotated and destroyed."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from finsecure_crypto.errors import FinSecureError, StateError, UnavailableError
from finsecure_rpc.logs import get_logger
from sqlalchemy import Connection

from finsecure_keyservice.audit.trail import Caller
from finsecure_keyservice.books import Books
from finsecure_keyservice.decisions import Auditor
from finsecure_keyservice.keys import registry, versions
from finsecure_keyservice.keys.lookup import get_key, get_version
from finsecure_keyservice.keys.material import Material
from finsecure_keyservice.keys.records import KeyVersion
from finsecure_keyservice.keys.states import VersionState
from finsecure_keyservice.keys.store import KeyStore

_log = get_logger(__name__)
_TICK_S = 30.0
T = TypeVar("T")


class KeyLife:
    """Does what is due, by the wall clock, each thing in a transaction of its own.

    Whatever was begun when the process died is found again in its state, and finished.

    Args:
        books: the transactions.
        auditor: opens their trails and tells the time.
        material: the keys.
        spiffe_id: the key service's own, for the events.
    """

    def __init__(self, books: Books, auditor: Auditor, material: Material, spiffe_id: str) -> None:
        self._books = books
        self._auditor = auditor
        self._material = material
        self._caller = Caller(spiffe_id)
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something is due now."""
        self._woken.set()

    async def tick(self) -> None:
        """Do what is due.

        Raises:
            UnavailableError, ConfigurationError: the store or the token; what is due stays due.
        """
        now = self._auditor.clock()
        for key in await self._transact(lambda store: store.keys_to_rotate(now)):
            await self._rotate(key.name, now)
        for version in await self._in(VersionState.PENDING_GENERATION):
            await self._generate(version, now)
        for version in await self._in(VersionState.PENDING_ACTIVATION):
            await self._activate(version, now)
        for version in await self._in(VersionState.DESTROY_SCHEDULED):
            await self._destroy(version, now)
        for version in await self._transact(lambda store: store.destroyed_with_keys()):
            if version.handle is not None:
                await self._erase(version, version.handle)

    async def run(self) -> None:
        """Do what is due until cancelled; a failure is logged and tried again."""
        while True:
            try:
                await self.tick()
            except Exception:
                _log.exception("keys wait; it is tried again")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _TICK_S)
            self._woken.clear()

    async def _rotate(self, name: str, now: datetime) -> None:
        with suppress(StateError):  # its next version is pending already
            await self._transact(lambda store: registry.rotate(store, name, None, None, now))
            _log.info("key rotates", key=name)

    async def _generate(self, version: KeyVersion, now: datetime) -> None:
        key = await self._transact(lambda store: get_key(store, version.key))
        try:
            made = await asyncio.to_thread(self._material.make, key.algorithm, version.name)
        except UnavailableError:
            raise
        except FinSecureError as error:
            code = error.code
            _log.exception("a key could not be made", version=version.name)
            await self._transact(lambda store: versions.fail_generation(store, version, code))
            return
        try:
            await self._transact(
                lambda store: versions.finish_generation(store, version, made, now)
            )
        except BaseException:
            await self._destroy_unless_kept(version, made.handle)
            raise
        _log.info("key made", version=version.name)

    async def _destroy_unless_kept(self, version: KeyVersion, handle: bytes) -> None:
        """Destroy a key whose version is not known to have it.

        Whoever is cancelled, or loses the reply, does not know whether the version was committed. A
        key too many does no harm, so nothing is destroyed where that cannot be found out.
        """
        with suppress(FinSecureError):
            kept = await self._transact(lambda store: get_version(store, version.name))
            if kept.handle != handle:
                await asyncio.to_thread(self._material.destroy, handle)

    async def _activate(self, version: KeyVersion, now: datetime) -> None:
        def act(store: KeyStore) -> None:
            current = get_version(store, version.name)
            if current.state is VersionState.PENDING_ACTIVATION:
                versions.activate_if_due(store, current, now)

        if version.activate_time <= now:
            await self._transact(act)

    async def _destroy(self, version: KeyVersion, now: datetime) -> None:
        def act(store: KeyStore) -> None:
            current = get_version(store, version.name)
            if current.state is VersionState.DESTROY_SCHEDULED:
                versions.destroy(store, current, now)

        if versions.destruction_is_due(version, now):
            await self._transact(act)
            _log.info("key destroyed", version=version.name)

    async def _erase(self, version: KeyVersion, handle: bytes) -> None:
        """Erase in the token what is recorded as destroyed; done again after a crash."""

        def act(store: KeyStore) -> None:
            current = get_version(store, version.name)
            if current.handle == handle:
                versions.forget(store, current)

        await asyncio.to_thread(self._material.destroy, handle)
        await self._transact(act)
        _log.info("key erased in the token", version=version.name)

    async def _in(self, state: VersionState) -> list[KeyVersion]:
        return list(await self._transact(lambda store: store.versions_in(state)))

    async def _transact(self, act: Callable[[KeyStore], T]) -> T:
        def work(connection: Connection) -> T:
            return act(KeyStore(connection, self._auditor.trail(connection, self._caller)))

        return await self._books.transact(work)
