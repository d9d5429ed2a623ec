"""The shares that a trustee holds: kept wrapped, endorsed, and sealed to on their way."""

import os

from finsecure_crypto import transcript
from finsecure_crypto.agreement import KeyPair
from finsecure_crypto.errors import ConflictError, NotFoundError, PolicyError
from finsecure_crypto.homomorphic.ceremony import TrusteeCard
from finsecure_crypto.homomorphic.key_record import Endorsement, Generation, KeyDescription
from finsecure_crypto.homomorphic.scheme import EncryptionKey, KeyShare
from finsecure_crypto.randomness import draw_secret
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.identity_store import IdentityProvider
from finsecure_rpc.logs import get_logger
from sqlalchemy import Connection

from finsecure_keyservice.audit.trail import Caller
from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.records import HeldKey
from finsecure_keyservice.trustee.surroundings import Surroundings, share_context, trustee_name

_log = get_logger(__name__)


class Holdings:
    """What this trustee holds, and says that it holds.

    Args:
        around: database, custody and clock.
        identities: this trustee's newest identity.
    """

    def __init__(self, around: Surroundings, identities: IdentityProvider) -> None:
        self._around = around
        self._identities = identities

    async def card(self, caller: Caller) -> TrusteeCard:
        """Who this trustee is, under its present certificate."""
        identity = self._identities.current()
        pair = await self.sealing_key(caller)
        return TrusteeCard.sign(
            identity.spiffe_id.id, pair.public, identity.signing_key, identity.signing_certificate
        )

    def endorse(self, held: HeldKey) -> Endorsement:
        """Sign, under the present certificate, that this trustee holds its share of a key."""
        identity = self._identities.current()
        signature = identity.signing_key.sign(*held.description.endorsement(held.holder))
        return Endorsement(
            identity.spiffe_id.id, held.holder, signature, identity.signing_certificate
        )

    async def endorse_again(self, caller: Caller, name: str) -> Endorsement:
        """Sign once more for a key that is held, as after a change of authorities.

        Raises:
            PolicyError: FEDERATION_MISMATCH.
            NotFoundError: KEY_UNKNOWN.
            StateError: SHARE_ERASED.
        """
        books = self._around.books

        def found(connection: Connection) -> HeldKey:
            held = store.key(connection, name)
            if held is None:
                raise NotFoundError("KEY_UNKNOWN", f"this trustee holds no share of {name}")
            held.require_share()
            books.trail(connection, caller).record(
                "key.endorse", name, digest=held.description.digest.hex(), holder=held.holder
            )
            return held

        async with books.refusing(caller, "EndorseKey", name):
            self.require_federation(name)
            return self.endorse(await books.transact(found))

    async def keep(
        self,
        caller: Caller,
        name: str,
        generation: Generation,
        key: EncryptionKey,
        share: KeyShare,
        origin: bytes,
    ) -> HeldKey:
        """Put a key and its share on disk, unless that has been done.

        Args:
            caller: who has brought it about.
            name: resource name of the key.
            generation: how it was made.
            key: the public key.
            share: this trustee's.
            origin: digest of what it was made in, 32 bytes.

        Raises:
            ConflictError: KEY_EXISTS for a name that is taken.
            StateError: SHARE_ERASED where it was held before, and the key destroyed.
        """
        description = KeyDescription(
            name, key.mode, generation, key.holders, key.threshold, key.digest()
        )
        public_key, secret = key.serialise(), share.serialise()

        def work(connection: Connection) -> HeldKey:
            # Within the transaction: a rotation of the wrapping key comes before it or after it.
            wrapped = self._around.custody.wrap(secret, share_context(name))
            held = HeldKey(description, share.holder, public_key, wrapped, origin)
            return self._kept(connection, caller, held)

        kept = await self._around.books.transact(work)
        _log.info(
            "share kept",
            key=name,
            mode=key.mode.value,
            generation=generation.value,
            holder=share.holder,
            digest=key.digest().hex(),
        )
        return kept

    async def sealing_key(self, caller: Caller) -> KeyPair:
        """The key that is sealed to; made at its first use."""

        def found(connection: Connection) -> SecretBytes:
            custody = self._around.custody
            known = store.sealing_key(connection)
            if known is not None:
                public, wrapped = known
                return custody.unwrap(wrapped, sealing_context(public))
            seed = draw_secret(os.urandom)
            public = KeyPair.from_seed(seed).public
            wrapped = custody.wrap(seed, sealing_context(public))
            store.add_sealing_key(connection, public, wrapped)
            trustee = self._identities.current().spiffe_id.id
            self._around.books.trail(connection, caller).record(
                "sealing-key.make",
                trustee_name(self._around.rules.federation, trustee),
                published=public,
            )
            return seed

        return KeyPair.from_seed(await self._around.books.transact(found))

    def _kept(self, connection: Connection, caller: Caller, held: HeldKey) -> HeldKey:
        said = held.description
        known = store.key(connection, said.name)
        if known is None:
            store.add_key(connection, held, self._around.clock())
            self._around.books.trail(connection, caller).record(
                "share.keep",
                said.name,
                published=said.digest,
                mode=said.mode.value,
                generation=said.generation.value,
                holder=held.holder,
                holders=said.holders,
                threshold=said.threshold,
                origin=held.origin.hex(),
            )
            return held
        if (known.origin, known.description, known.holder) != (held.origin, said, held.holder):
            raise exists(said.name)
        known.require_share()
        return known

    def require_federation(self, key_name: str) -> None:
        """Refuse a key of another federation.

        Raises:
            PolicyError: FEDERATION_MISMATCH.
        """
        federation = self._around.rules.federation
        if not key_name.startswith(f"federations/{federation}/encryptionKeys/"):
            raise PolicyError(
                "FEDERATION_MISMATCH", f"this is a trustee of {federation}; it holds no {key_name}"
            )


def sealing_context(public: bytes) -> bytes:
    """What the wrapped seed of a sealing key is bound to."""
    return transcript.encode("trustee-sealing-key", public)


def exists(name: str) -> ConflictError:
    """The error for a name that is taken."""
    return ConflictError(
        "KEY_EXISTS", f"this trustee holds another {name} already; choose a new name for the key"
    )
