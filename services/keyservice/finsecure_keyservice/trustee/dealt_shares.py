"""Taking in a share from a dealer, who has had the whole key for a moment."""

import asyncio
from dataclasses import dataclass

from finsecure_crypto import sealing
from finsecure_crypto.errors import InvalidArgumentError, PolicyError
from finsecure_crypto.homomorphic.ceremony import check_share, dealt_share_context
from finsecure_crypto.homomorphic.key_record import Generation
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.registry import load_key, load_share
from finsecure_crypto.homomorphic.scheme import EncryptionKey, KeyShare
from finsecure_rpc.identity_store import IdentityProvider

from finsecure_keyservice.audit.trail import Caller
from finsecure_keyservice.trustee.books import Books
from finsecure_keyservice.trustee.holdings import Holdings
from finsecure_keyservice.trustee.records import HeldKey


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


class DealtShares:
    """Opens, checks and keeps dealt shares.

    Args:
        books: where refusals are recorded.
        holdings: where shares are kept.
        identities: this trustee's newest identity.
        accepted: whether a dealer's shares are taken at all.
    """

    def __init__(
        self, books: Books, holdings: Holdings, identities: IdentityProvider, *, accepted: bool
    ) -> None:
        self._books = books
        self._holdings = holdings
        self._identities = identities
        self._accepted = accepted

    async def take_in(self, caller: Caller, dealt: DealtShare) -> HeldKey:
        """Open, check and keep a dealt share.

        Only shares of Paillier keys are taken: those of other schemes cannot be checked against
        the public key, and trustees make them without a dealer.

        Raises:
            InvalidArgumentError: DEALT_KEY_MODE for a key of another scheme.
            PolicyError: DEALT_KEYS_REFUSED by this trustee's configuration.
            IntegrityError: KEY_MALFORMED, CIPHERTEXT_REJECTED or SHARE_INVALID.
            ConflictError: KEY_EXISTS for a name that is taken.
        """
        async with self._books.refusing(caller, "ImportShare", dealt.key_name):
            return await self._take_in(caller, dealt)

    async def _take_in(self, caller: Caller, dealt: DealtShare) -> HeldKey:
        self._holdings.require_federation(dealt.key_name)
        if not self._accepted:
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
        pair = await self._holdings.sealing_key(caller)

        def opened() -> tuple[EncryptionKey, KeyShare]:
            key = load_key(dealt.mode, dealt.public_key)
            context = dealt_share_context(dealt.key_name, key.digest(), dealt.holder, trustee)
            share = load_share(dealt.mode, sealing.open_sealed(pair, dealt.sealed_share, context))
            check_share(key, share, dealt.holder)
            return key, share

        key, share = await asyncio.to_thread(opened)
        return await self._holdings.keep(
            caller, dealt.key_name, Generation.DEALER, key, share, key.digest()
        )
