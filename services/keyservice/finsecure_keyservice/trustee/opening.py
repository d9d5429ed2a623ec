"""Helping to open a sum: check, add up again, decide, and only then hand out the partial.

The decision, its event in the log and the partial are committed together before the first byte
leaves. Killed before,
nothing has left and the request is asked again; killed after, the same request gets the same bytes
and no other gets any. A second partial with other noise for one total never exists.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from finsecure_crypto.homomorphic.decryption import (
    Contribution,
    DecryptionRequest,
    RoundSubject,
)
from finsecure_crypto.homomorphic.key_record import KeyState
from finsecure_rpc.logs import get_logger
from sqlalchemy import Connection

from finsecure_keyservice.audit.trail import Caller
from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.adding import Piece, added
from finsecure_keyservice.trustee.erasures import Erasures
from finsecure_keyservice.trustee.records import HeldKey, Opening
from finsecure_keyservice.trustee.rules import (
    Members,
    check_certificates,
    check_contributions,
    check_key,
)
from finsecure_keyservice.trustee.surroundings import Surroundings, share_context
from finsecure_keyservice.trustee.workers import partial_of, started

_log = get_logger(__name__)


class Openings:
    """Answers requests to open sums, a few at a time.

    Args:
        around: what it works with.
        erasures: hears of the states of keys.
        at_once: requests whose ciphertexts are worked on at the same time; others wait.
    """

    def __init__(self, around: Surroundings, erasures: Erasures, at_once: int) -> None:
        self._around = around
        self._erasures = erasures
        self._turns = asyncio.Semaphore(at_once)

    async def answered(self, caller: Caller, request: DecryptionRequest) -> Opening | None:
        """What the same request was answered before.

        Raises:
            StateError: SHARE_ERASED, where the answer was erased with the share.
        """
        digest = request.digest()
        async with self.refusing(caller, request):
            known = await self._around.books.transact(lambda c: store.opening(c, digest))
            if known is not None and not known.partial:
                (await self._key(known)).require_share()
            return known

    async def holder(self, opening: Opening) -> int:
        """Number of this trustee's share of the key that an opening was made with."""
        return (await self._key(opening)).holder

    async def _key(self, opening: Opening) -> HeldKey:
        held = await self._around.books.transact(lambda c: store.key(c, opening.key_name))
        assert held is not None  # noqa: S101 - a foreign key says so
        return held

    async def admit(
        self, caller: Caller, request: DecryptionRequest, manifest: Sequence[Contribution]
    ) -> HeldKey:
        """Check everything that does not need the ciphertexts; a refusal is on disk when raised.

        Raises:
            FinSecureError: the reason of the refusal, or why nothing could be decided.
        """
        async with self.refusing(caller, request):
            return await self._admit(request, manifest)

    def refusing(
        self, caller: Caller, request: DecryptionRequest
    ) -> AbstractAsyncContextManager[None]:
        """Put on record why this request is refused inside; see `Books.refusing`."""
        context = request.context
        return self._around.books.refusing(
            caller,
            "PartiallyDecrypt",
            context.subject_name,
            key=context.key_name,
            digest=request.digest().hex(),
        )

    async def _admit(self, request: DecryptionRequest, manifest: Sequence[Contribution]) -> HeldKey:
        around, context = self._around, request.context
        around.rules.check_federation(request)
        held = await around.books.transact(lambda c: store.key(c, context.key_name))
        # A key that is not held here needs no question to the key service.
        state = KeyState.ENABLED if held is None else await self._state(held)
        known = check_key(request, held, state)
        known.require_share()
        around.rules.check_size(request)
        await self._require_cohort(request)
        around.rules.check_contributors(manifest)
        members = self._members(around.clock())
        await asyncio.to_thread(check_contributions, request, manifest, members.public_key_of)
        await around.books.transact(lambda c: around.rules.check_unopened(c, request, manifest))
        return known

    async def _state(self, held: HeldKey) -> KeyState:
        """Where the key stands now; what follows for its share is seen to as well."""
        state = await self._around.states.state(held.description.name)
        await self._erasures.observe(held, state)
        return state

    async def _require_cohort(self, request: DecryptionRequest) -> None:
        """Refuse fewer contributions than the federation demands, whatever the owner's rules say.

        Raises:
            PolicyError: COHORT_BELOW_FEDERATION_MINIMUM.
            FinSecureError: what the federation demands is not known, or not to be believed.
        """
        minima = self._around.minima
        if isinstance(request.context.subject, RoundSubject):
            await minima.require_round(request.contributions)
        else:
            await minima.require_sum(request.contributions)

    def _members(self, now: datetime) -> Members:
        around = self._around
        return Members(around.anchors(), around.revoked(), around.trust_domain, now)

    async def open(
        self,
        caller: Caller,
        request: DecryptionRequest,
        manifest: Sequence[Contribution],
        held: HeldKey,
        pieces: AsyncIterator[Piece],
    ) -> Opening:
        """Add the contributions up again and give the partial, decided and on disk.

        Args:
            caller: who asks.
            request: admitted.
            manifest: of the request.
            held: the key, from `admit`.
            pieces: the ciphertexts of all contributions, in the order of the manifest.

        Raises:
            FinSecureError: the reason of the refusal, or why nothing could be decided.
        """
        began = self._around.clock()
        async with self.refusing(caller, request):
            async with self._turns:
                async with started(held) as working:
                    total = await added(working, request, manifest, pieces)
                share = await asyncio.to_thread(
                    self._around.custody.unwrap,
                    held.wrapped_share,
                    share_context(held.description.name),
                )
                partial = await partial_of(
                    held, share, total, request.digest(), self._around.partial_timeout_s
                )
            # All of this may have taken an hour, in which the key may have gone out of use, the
            # minimum cohort been raised, or a contributor been put out. A certificate that has only
            # expired meanwhile does no harm.
            state = await self._state(held)
            await self._require_cohort(request)
            members = self._members(began)
            await asyncio.to_thread(check_certificates, manifest, members.public_key_of)
            return await self._decide(caller, request, manifest, partial, state)

    async def _decide(
        self,
        caller: Caller,
        request: DecryptionRequest,
        manifest: Sequence[Contribution],
        partial: bytes,
        state: KeyState,
    ) -> Opening:
        around, context = self._around, request.context
        granted = Opening(
            request.digest(),
            context.subject_name,
            context.key_name,
            partial,
            hashlib.sha256(partial).digest(),
        )
        now = around.clock()

        def decide(connection: Connection) -> Opening:
            # The same request may have come twice at once; the first partial is the only one.
            known = store.opening(connection, granted.request_digest)
            if known is not None:
                return known
            current = store.key(connection, context.key_name)
            check_key(request, current, state).require_share()  # it may have gone meanwhile
            around.rules.check_unopened(connection, request, manifest)
            contributions = [(item.client, item.sha256) for item in manifest]
            store.add_opening(connection, granted, contributions, now)
            around.books.trail(connection, caller).record(
                "sum.open",
                context.subject_name,
                published=granted.request_digest,
                key=context.key_name,
                contributions=request.contributions,
                total=request.total_sha256.hex(),
                partial=granted.sha256.hex(),
            )
            return granted

        opening = await around.books.transact(decide)
        _log.info(
            "opened",
            subject=context.subject_name,
            key=context.key_name,
            contributions=request.contributions,
            request=request.digest().hex(),
            caller=caller.name,
        )
        return opening
