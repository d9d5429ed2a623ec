"""Taking part in key ceremonies.

Between the steps of a ceremony a trustee's secrets are in memory alone: after a restart the
ceremony is begun again, and nothing of the broken one is of use. A finished key is on disk before
this trustee signs for it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from finsecure_crypto.certificates import Role, SpiffeId, verify_member
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.homomorphic.ceremony import Ceremony, CeremonyMessage, Participant, Steps
from finsecure_crypto.homomorphic.key_record import Generation
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_rpc.identity_store import IdentityProvider

from finsecure_keyservice.audit.trail import Caller
from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.holdings import Holdings, exists
from finsecure_keyservice.trustee.records import HeldKey
from finsecure_keyservice.trustee.surroundings import Surroundings

_MOST_CEREMONIES = 16

StepsOf = Callable[[Mode, int, bytes], Steps]
"""Gives the scheme's side of a ceremony, from mode, holder number and context."""


class Ceremonies:
    """This trustee's part in ceremonies.

    Args:
        around: database, authorities and clock.
        holdings: where shares are kept.
        identities: this trustee's newest identity.
        steps_of: the schemes.
    """

    def __init__(
        self,
        around: Surroundings,
        holdings: Holdings,
        identities: IdentityProvider,
        steps_of: StepsOf,
    ) -> None:
        self._around = around
        self._holdings = holdings
        self._identities = identities
        self._steps_of = steps_of
        self._running: OrderedDict[bytes, Participant] = OrderedDict()
        self._turn = asyncio.Lock()

    async def advance(
        self, caller: Caller, ceremony: Ceremony, step: int, messages: Sequence[CeremonyMessage]
    ) -> tuple[CeremonyMessage | None, HeldKey | None]:
        """Do a step; after the last one the new key is on disk and returned too.

        Of a ceremony that was finished before a restart only the key is left.

        Raises:
            ConflictError: KEY_EXISTS for a name that is taken.
            StateError: SHARE_ERASED where the key was made and destroyed.
            InvalidArgumentError: NOT_INVITED where this trustee is not among the members.
            FinSecureError: what `Participant.advance` and the checks of the cards raise.
        """
        refusing = self._around.books.refusing(
            caller, "AdvanceCeremony", ceremony.key_name, step=step
        )
        async with self._turn, refusing:
            self._holdings.require_federation(ceremony.key_name)
            return await self._advance(caller, ceremony, step, messages)

    async def _advance(
        self, caller: Caller, ceremony: Ceremony, step: int, messages: Sequence[CeremonyMessage]
    ) -> tuple[CeremonyMessage | None, HeldKey | None]:
        name, context = ceremony.key_name, ceremony.digest()
        participant = self._running.get(context)
        if participant is None:
            kept = await self._around.books.transact(lambda c: store.key(c, name))
            if kept is not None:
                if kept.origin != context:
                    raise exists(name)
                kept.require_share()
                return None, kept
            participant = await self._join(caller, ceremony)
        message = await asyncio.to_thread(participant.advance, step, messages)
        if participant.made is None:
            return message, None
        key, share = participant.made
        held = await self._holdings.keep(caller, name, Generation.DISTRIBUTED, key, share, context)
        return message, held

    async def _join(self, caller: Caller, ceremony: Ceremony) -> Participant:
        """Begin to take part; on record before anything is said."""
        identity, context = self._identities.current(), ceremony.digest()
        pair = await self._holdings.sealing_key(caller)
        public_keys = await asyncio.to_thread(self._verified, ceremony)
        numbers = [
            number
            for number, card in enumerate(ceremony.trustees, 1)
            if (card.trustee, card.sealing_key) == (identity.spiffe_id.id, pair.public)
            and public_keys[number] == identity.signing_key.public
        ]
        if not numbers:
            raise InvalidArgumentError(
                "NOT_INVITED",
                "this trustee, under its present certificate, is not among the ceremony's members; "
                "fetch all cards again and begin anew",
            )
        participant = Participant(
            ceremony,
            numbers[0],
            pair,
            identity.signing_key,
            public_keys,
            self._steps_of(ceremony.mode, numbers[0], context),
        )
        members = ",".join(card.trustee for card in ceremony.trustees)
        await self._around.books.transact(
            lambda c: self._around.books.trail(c, caller).record(
                "ceremony.join",
                ceremony.key_name,
                ceremony=context.hex(),
                mode=ceremony.mode.value,
                holder=numbers[0],
                trustees=members,
            )
        )
        self._running[context] = participant
        if len(self._running) > _MOST_CEREMONIES:
            self._running.popitem(last=False)
        return participant

    def _verified(self, ceremony: Ceremony) -> dict[int, bytes]:
        """Verify all cards; gives the public signing key of each holder."""
        around = self._around
        anchors, revocations, now = around.anchors(), around.revoked(), around.clock()

        def public_key_of(trustee: str, certificate: bytes) -> bytes:
            member = SpiffeId(around.trust_domain, Role.TRUSTEE, trustee)
            return verify_member(certificate, anchors, revocations, now, member)

        return {
            number: card.verify(public_key_of) for number, card in enumerate(ceremony.trustees, 1)
        }
