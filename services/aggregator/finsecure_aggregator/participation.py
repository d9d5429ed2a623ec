"""A client's side of rounds, as the aggregator answers it: submit, decline, upload, watch."""

from collections.abc import AsyncIterator, Iterable

from finsecure_crypto.errors import StateError, UnavailableError

from finsecure_aggregator.attendance import not_invited
from finsecure_aggregator.instructions import Instruction
from finsecure_aggregator.records import RoundKey, RoundState
from finsecure_aggregator.scheduler import Scheduler
from finsecure_aggregator.store import Store
from finsecure_aggregator.uploads import Piece, Uploads, UploadStatus
from finsecure_aggregator.watchers import Presence
from finsecure_aggregator.wire.client_messages import client_message


class Participation:
    """Finds the round that a client means and passes its message on.

    Args:
        store: durable state.
        scheduler: knows the open rounds.
        uploads: receives inputs.
        presence: who is connected.
    """

    def __init__(
        self, store: Store, scheduler: Scheduler, uploads: Uploads, presence: Presence
    ) -> None:
        self._store = store
        self._scheduler = scheduler
        self._uploads = uploads
        self._presence = presence

    async def submit(self, key: RoundKey, phase: RoundState, client: str, payload: bytes) -> None:
        """Take a message of any phase but an upload; see `RoundDriver.accept`.

        Raises:
            StateError: STALE_ROUND, or what `RoundDriver.accept` raises.
        """
        driver = self._scheduler.driver(key)
        if driver is not None:
            await driver.accept(phase, client, payload, size_bytes=len(payload))
        elif not await self._said_before(key, phase, client, payload):
            raise await self._no_driver(key, client)

    async def upload(
        self, key: RoundKey, client: str, header: bytes, pieces: AsyncIterator[Piece]
    ) -> UploadStatus:
        """Go on with the upload of a input; see `Uploads.receive`."""
        driver = self._scheduler.driver(key)
        if driver is not None:
            return await self._uploads.receive(driver, client, header, pieces)
        return await self._past_upload(key, client, header)

    async def upload_status(self, key: RoundKey, client: str) -> UploadStatus:
        """Say how much of a client's input is on disk."""
        driver = self._scheduler.driver(key)
        if driver is None:
            return await self._past_upload(key, client, None)
        if client not in driver.record.invited:
            raise not_invited(client, key)
        return await self._uploads.status(driver, client)

    async def decline(self, key: RoundKey, client: str, reason: str) -> None:
        """Stop waiting for a client; nothing to do for a round that is over."""
        driver = self._scheduler.driver(key)
        if driver is not None:
            await driver.decline(client, reason)
            return
        record = await self._store.round(key)
        if client not in record.invited:
            raise not_invited(client, key)
        if not record.state.ended:
            raise await self._no_driver(key, client)

    async def watch(self, client: str, tasks: Iterable[str]) -> AsyncIterator[Instruction]:
        """Give a client's open instructions, then each new one; the client is present meanwhile.

        Raises:
            StateError: WATCH_SUPERSEDED, when the client has opened a newer stream.
        """
        with self._presence.join(client, tasks) as watcher:
            sent: dict[str, set[tuple[RoundKey, RoundState]]] = {}
            while not watcher.superseded:
                watcher.event.clear()
                for task in sorted(watcher.tasks):
                    now = await self._scheduler.instructions(task, client)
                    known = sent.get(task, set())
                    sent[task] = {(item.key, item.state) for item in now}
                    for item in now:
                        if (item.key, item.state) not in known:
                            yield item
                await watcher.event.wait()
        raise StateError(
            "WATCH_SUPERSEDED", f"{client} has opened a newer Watch stream; only one is kept"
        )

    async def _past_upload(self, key: RoundKey, client: str, header: bytes | None) -> UploadStatus:
        said = await self._store.message(key, RoundState.SUBMIT_INPUT, client)
        if said is not None and (
            header is None
            or client_message(RoundState.SUBMIT_INPUT, header).digest() == said.digest
        ):
            return UploadStatus(said.size_bytes, accepted=True)
        raise await self._no_driver(key, client)

    async def _said_before(
        self, key: RoundKey, phase: RoundState, client: str, payload: bytes
    ) -> bool:
        said = await self._store.message(key, phase, client)
        message = client_message(phase, payload)
        return said is not None and said.digest == message.digest()

    async def _no_driver(self, key: RoundKey, client: str) -> Exception:
        record = await self._store.round(key)
        if client not in record.invited:
            return not_invited(client, key)
        if record.state.ended:
            return StateError(
                "STALE_ROUND",
                f"{key.name} is over ({record.state.value}); wait for the next round",
            )
        return UnavailableError(
            "ROUND_RESUMING", f"the aggregator is resuming {key.name}; try again in a moment"
        )
