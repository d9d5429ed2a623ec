"""Taking part in key ceremonies, and taking in dealt shares.

Between the steps of a ceremony a trustee's secrets are in memory alone: after a restart the
ceremony is begun again, and nothing of the broken one is of use. A finished key is on disk before
this trustee signs for it.
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finsecure_crypto import sealing, transcript
from finsecure_crypto.agreement import KeyPair
from finsecure_crypto.certificates import Role, SpiffeId, verify_member
from finsecure_crypto.errors import (
    AuthenticationError,
    ConflictError,
    InvalidArgumentError,
    PolicyError,
    UnavailableError,
)
from finsecure_crypto.homomorphic.ceremony import (
    Ceremony,
    CeremonyMessage,
    Participant,
    Steps,
    TrusteeCard,
    check_share,
    dealt_share_context,
)
from finsecure_crypto.homomorphic.key_record import Endorsement, Generation, KeyDescription
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.registry import load_key, load_share
from finsecure_crypto.homomorphic.scheme import EncryptionKey, KeyShare
from finsecure_crypto.randomness import draw_secret
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.identity_store import IdentityProvider
from finsecure_rpc.logs import get_logger
from sqlalchemy import Connection

from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.opening import Surroundings, share_context
from finsecure_keyservice.trustee.records import HeldKey

_log = get_logger(__name__)
_MOST_CEREMONIES = 16

StepsOf = Callable[[Mode, int, bytes], Steps]
"""Gives the scheme's side of a ceremony, from mode, holder number and context."""


@dataclass(frozen=True)
class DealtShare:
    """What an operator brings from a dealer.

    Attributes:
        key_name: resource name of the key.
        mode: the scheme.
        public_key: canonical public key.
        sealed_share: the share, sealed to this trustee.
        holder: number of the share, from 1.
    """

    key_name: str
    mode: Mode
    public_key: bytes
    sealed_share: bytes
    holder: int


class Ceremonies:
    """This trustee's part in ceremonies.

    Args:
        around: database, custody, authorities and clock.
        identities: this trustee's newest identity.
        steps_of: the schemes.
        dealt_keys: whether a dealer's shares are taken at all.
    """

    def __init__(
        self,
        around: Surroundings,
        identities: IdentityProvider,
        steps_of: StepsOf,
        *,
        dealt_keys: bool,
    ) -> None:
        self._around = around
        self._identities = identities
        self._steps_of = steps_of
        self._dealt_keys = dealt_keys
        self._running: OrderedDict[bytes, Participant] = OrderedDict()
        self._turn = asyncio.Lock()

    async def card(self) -> TrusteeCard:
        """Who this trustee is, under its present certificate."""
        identity = self._identities.current()
        pair = await self._sealing_key()
        return TrusteeCard.sign(
            identity.spiffe_id.id, pair.public, identity.signing_key, identity.signing_certificate
        )

    async def advance(
        self, ceremony: Ceremony, step: int, messages: Sequence[CeremonyMessage]
    ) -> tuple[CeremonyMessage | None, HeldKey | None]:
        """Do a step; after the last one the new key is on disk and returned too.

        Of a ceremony that was finished before a restart only the key is left.

        Raises:
            ConflictError: KEY_EXISTS for a name that is taken.
            InvalidArgumentError: NOT_INVITED where this trustee is not among the members.
            FinSecureError: what `Participant.advance` and the checks of the cards raise.
        """
        self._require_federation(ceremony.key_name)
        async with self._turn:
            context = ceremony.digest()
            kept = await self._around.database.run(lambda c: store.key(c, ceremony.key_name))
            if kept is not None and context not in self._running:
                if kept.origin != context:
                    raise _exists(ceremony.key_name)
                return None, kept
            participant = await self._participant(ceremony)
            message = await asyncio.to_thread(participant.advance, step, messages)
            if participant.made is None:
                return message, None
            key, share = participant.made
            held = await self._keep(
                ceremony.key_name, Generation.DISTRIBUTED, key, share, ceremony.digest()
            )
            return message, held

    async def take_in(self, dealt: DealtShare) -> HeldKey:
        """Open, check and keep a dealt share.

        Only shares of Paillier keys are taken: those of other schemes cannot be checked against
        the public key, and trustees make them without a dealer.

        Raises:
            InvalidArgumentError: DEALT_KEY_MODE for a key of another scheme.
            PolicyError: DEALT_KEYS_REFUSED by this trustee's configuration.
            IntegrityError: KEY_MALFORMED, CIPHERTEXT_REJECTED or SHARE_INVALID.
            ConflictError: KEY_EXISTS for a name that is taken.
        """
        self._require_federation(dealt.key_name)
        if not self._dealt_keys:
            raise PolicyError(
                "DEALT_KEYS_REFUSED",
                "this trustee takes no share from a dealer, who has seen the whole key; its owner "
                "may set dealt_keys = true",
            )
        if dealt.mode is not Mode.PAILLIER:
            raise InvalidArgumentError(
                "DEALT_KEY_MODE",
                f"shares of {dealt.mode.value} keys are not dealt: hold a ceremony instead",
            )
        trustee = self._identities.current().spiffe_id.id
        pair = await self._sealing_key()

        def opened() -> tuple[EncryptionKey, KeyShare]:
            key = load_key(dealt.mode, dealt.public_key)
            context = dealt_share_context(dealt.key_name, key.digest(), dealt.holder, trustee)
            share = load_share(dealt.mode, sealing.open_sealed(pair, dealt.sealed_share, context))
            check_share(key, share, dealt.holder)
            return key, share

        key, share = await asyncio.to_thread(opened)
        return await self._keep(dealt.key_name, Generation.DEALER, key, share, key.digest())

    def endorse(self, held: HeldKey) -> Endorsement:
        """Sign, under the present certificate, that this trustee holds its share of a key."""
        identity = self._identities.current()
        signature = identity.signing_key.sign(*held.description.endorsement(held.holder))
        return Endorsement(
            identity.spiffe_id.id, held.holder, signature, identity.signing_certificate
        )

    async def _participant(self, ceremony: Ceremony) -> Participant:
        context = ceremony.digest()
        known = self._running.get(context)
        if known is not None:
            return known
        identity = self._identities.current()
        pair = await self._sealing_key()
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
        self._running[context] = participant
        if len(self._running) > _MOST_CEREMONIES:
            self._running.popitem(last=False)
        return participant

    def _verified(self, ceremony: Ceremony) -> dict[int, bytes]:
        """Verify all cards; gives the public signing key of each holder."""
        around = self._around
        anchors, now = around.anchors(), around.clock()
        try:
            revocations = around.revocations.current()
        except AuthenticationError as error:  # this trustee's trouble, not the caller's identity
            raise UnavailableError(error.code, error.message) from error

        def public_key_of(trustee: str, certificate: bytes) -> bytes:
            member = SpiffeId(around.trust_domain, Role.TRUSTEE, trustee)
            return verify_member(certificate, anchors, revocations, now, member)

        return {
            number: card.verify(public_key_of) for number, card in enumerate(ceremony.trustees, 1)
        }

    async def _keep(
        self,
        name: str,
        generation: Generation,
        key: EncryptionKey,
        share: KeyShare,
        origin: bytes,
    ) -> HeldKey:
        """Put a key and its share on disk, unless that has been done."""
        held = HeldKey(
            KeyDescription(name, key.mode, generation, key.holders, key.threshold, key.digest()),
            share.holder,
            key.serialise(),
            await asyncio.to_thread(
                self._around.custody.wrap, share.serialise(), share_context(name)
            ),
            origin,
        )
        now = self._around.clock()

        def keep(connection: Connection) -> HeldKey:
            known = store.key(connection, name)
            if known is None:
                store.add_key(connection, held, now)
                return held
            if (known.origin, known.description, known.holder) != (
                origin,
                held.description,
                held.holder,
            ):
                raise _exists(name)
            return known

        kept = await self._around.database.run(keep)
        _log.info(
            "share kept",
            key=name,
            mode=key.mode.value,
            generation=generation.value,
            holder=share.holder,
            digest=key.digest().hex(),
        )
        return kept

    async def _sealing_key(self) -> KeyPair:
        """The key that is sealed to; made at its first use."""

        def found(connection: Connection) -> SecretBytes:
            custody = self._around.custody
            known = store.sealing_key(connection)
            if known is not None:
                public, wrapped = known
                return custody.unwrap(wrapped, _sealing_context(public))
            seed = draw_secret(os.urandom)
            public = KeyPair.from_seed(seed).public
            wrapped = custody.wrap(seed, _sealing_context(public))
            store.add_sealing_key(connection, public, wrapped)
            return seed

        return KeyPair.from_seed(await self._around.database.run(found))

    def _require_federation(self, key_name: str) -> None:
        federation = self._around.rules.federation
        if not key_name.startswith(f"federations/{federation}/encryptionKeys/"):
            raise PolicyError(
                "FEDERATION_MISMATCH", f"this is a trustee of {federation}; it holds no {key_name}"
            )


def _sealing_context(public: bytes) -> bytes:
    return transcript.encode("trustee-sealing-key", public)


def _exists(name: str) -> ConflictError:
    return ConflictError(
        "KEY_EXISTS", f"this trustee holds another {name} already; choose a new name for the key"
    )
