"""Erasing the shares of destroyed keys: after a proof, after a grace, with an event.

An erased share does not come back, and the key service alone says that a key is destroyed. So its
word is taken only with a proof that its log has the event, and a state other than destroyed within
the grace takes the erasure back. What was opened stays known by its digests.
"""

import asyncio
from datetime import datetime, timedelta

from finsecure_crypto.certificates import SpiffeId
from finsecure_crypto.errors import FinSecureError
from finsecure_crypto.homomorphic.key_record import KeyState
from finsecure_rpc.logs import get_logger
from sqlalchemy import Connection

from finsecure_keyservice.audit.trail import Caller
from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.records import HeldKey
from finsecure_keyservice.trustee.surroundings import Surroundings

_log = get_logger(__name__)


class Erasures:
    """Schedules, takes back and carries out erasures.

    Args:
        around: database, key states and clock.
        own: this trustee, who is the caller of what it does by itself.
        grace: from the first proof that a key is destroyed to the erasure of its share.
    """

    def __init__(self, around: Surroundings, own: SpiffeId, grace: timedelta) -> None:
        self._around = around
        self._self = Caller(str(own))
        self._grace = grace

    async def run(self, interval_s: float) -> None:
        """Look at all shares again and again, until cancelled."""
        while True:
            try:
                await self.review()
            except Exception:
                _log.exception("shares were not reviewed; it is tried again")
            await asyncio.sleep(interval_s)

    async def review(self) -> None:
        """Look at each share that is not erased."""
        for held in await self._around.books.transact(store.kept):
            try:
                state = await self._around.states.state(held.description.name)
            except FinSecureError as error:
                _log.warning("key state unknown", key=held.description.name, reason=error.code)
                continue
            await self.observe(held, state)

    async def observe(self, held: HeldKey, state: KeyState) -> None:
        """Do what follows from the state of a key, as the key service says it.

        What fails here is logged and tried at the next look: it must not stand in the way of the
        refusal that a key out of use gets anyway.
        """
        try:
            if state is KeyState.DESTROYED:
                await self._destroyed(held)
            elif held.destroyed_time is not None:
                await self._restored(held, state)
        except FinSecureError as error:
            _log.error("erasure not decided", key=held.description.name, error=str(error))

    async def _destroyed(self, held: HeldKey) -> None:
        around, said = self._around, held.description
        if held.erased or self._waits(held.destroyed_time):
            return
        event = await around.states.proven(said, KeyState.DESTROYED)

        def decide(connection: Connection) -> None:
            known = store.key(connection, said.name)
            if known is None or known.erased:
                return
            trail = around.books.trail(connection, self._self)
            if known.destroyed_time is None:
                store.set_destroyed(connection, said.name, around.clock())
                trail.record(
                    "erasure.schedule",
                    said.name,
                    proof=event,
                    grace_s=round(self._grace.total_seconds()),
                )
                _log.warning("share will be erased", key=said.name, after=str(self._grace))
            elif not self._waits(known.destroyed_time):
                partials = store.erase(connection, said.name)
                trail.record("share.erase", said.name, proof=event, partials=partials)
                _log.warning("share erased", key=said.name)

        await around.books.transact(decide)

    async def _restored(self, held: HeldKey, state: KeyState) -> None:
        around, name = self._around, held.description.name

        def decide(connection: Connection) -> None:
            known = store.key(connection, name)
            if known is None or known.erased or known.destroyed_time is None:
                return
            store.set_destroyed(connection, name, None)
            around.books.trail(connection, self._self).record(
                "erasure.cancel", name, state=state.value
            )
            _log.warning("share will not be erased", key=name, state=state.value)

        await around.books.transact(decide)

    def _waits(self, destroyed_time: datetime | None) -> bool:
        """Whether an erasure is scheduled, and its time has not come."""
        return destroyed_time is not None and self._around.clock() < destroyed_time + self._grace
