"""Helping to open a sum: check, add up again, decide, and only then hand out the partial.

The decision and the partial are committed together before the first byte leaves. Killed before,
nothing has left and the request is asked again; killed after, the same request gets the same bytes
and no other gets any. A second partial with other noise for one total never exists.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from finsecure_crypto import transcript
from finsecure_crypto.certificates import RevocationList, TrustAnchors
from finsecure_crypto.errors import (
    AuthenticationError,
    FinSecureError,
    IntegrityError,
    InternalError,
    ProtocolViolationError,
    UnavailableError,
)
from finsecure_crypto.homomorphic.decryption import Contribution, DecryptionRequest
from finsecure_crypto.homomorphic.key_record import KeyState
from finsecure_rpc.database import Database
from finsecure_rpc.logs import get_logger
from sqlalchemy import Connection

from finsecure_keyservice.audit.refusals import RefusalBudget
from finsecure_keyservice.clock import Clock
from finsecure_keyservice.protection.kek import KeyEncryptionKey
from finsecure_keyservice.trustee import store, worker
from finsecure_keyservice.trustee.records import OPENED, Decision, HeldKey, Opening
from finsecure_keyservice.trustee.rules import Members, Rules, check_contributions, check_key
from finsecure_keyservice.trustee.workers import Worker, partial_of, started

_log = get_logger(__name__)


def share_context(key_name: str) -> bytes:
    """What a wrapped share is bound to."""
    return transcript.encode("trustee-share", key_name)


class RevocationSource(Protocol):
    """Gives the newest verified revocation list."""

    def current(self) -> RevocationList:
        """The list; AuthenticationError REVOCATION_LIST_STALE if it is too old."""
        ...


class KeyStates(Protocol):
    """Knows where keys stand, from the key service."""

    async def state(self, key_name: str) -> KeyState:
        """State of a key now.

        Raises:
            NotFoundError: KEY_UNKNOWN.
            UnavailableError: when it cannot be asked for; then nothing is opened.
        """
        ...


@dataclass(frozen=True)
class Surroundings:
    """What openings work with.

    Attributes:
        database: the trustee's.
        custody: wraps what is secret for the database.
        states: where keys stand.
        anchors: the authorities that are believed now.
        revocations: the newest revocation list.
        trust_domain: of the federation.
        clock: aware UTC time.
        rules: the owner's.
        partial_timeout_s: how long the computation of a partial may take.
    """

    database: Database
    custody: KeyEncryptionKey
    states: KeyStates
    anchors: Callable[[], TrustAnchors]
    revocations: RevocationSource
    trust_domain: str
    clock: Clock
    rules: Rules
    partial_timeout_s: float


@dataclass(frozen=True)
class Piece:
    """A piece of the ciphertexts of all contributions, one after another."""

    offset: int
    content: bytes


class Openings:
    """Answers requests to open sums, a few at a time.

    Args:
        around: what it works with.
        at_once: requests whose ciphertexts are worked on at the same time; others wait.
    """

    def __init__(self, around: Surroundings, at_once: int) -> None:
        self._around = around
        self._turns = asyncio.Semaphore(at_once)
        self._refusals = RefusalBudget()

    async def answered(self, request: DecryptionRequest) -> Opening | None:
        """What the same request was answered before."""
        digest = request.digest()
        return await self._around.database.run(lambda c: store.opening(c, digest))

    async def holder(self, opening: Opening) -> int:
        """Number of this trustee's share of the key that an opening was made with."""
        held = await self._around.database.run(lambda c: store.key(c, opening.key_name))
        assert held is not None  # noqa: S101 - a foreign key says so
        return held.holder

    async def admit(
        self, caller: str, request: DecryptionRequest, manifest: Sequence[Contribution]
    ) -> HeldKey:
        """Check everything that does not need the ciphertexts; a refusal is on disk when raised.

        Raises:
            FinSecureError: the reason of the refusal, or why nothing could be decided.
        """
        try:
            return await self._admit(request, manifest)
        except FinSecureError as error:
            await self._refuse(caller, request, error)
            raise

    async def _admit(self, request: DecryptionRequest, manifest: Sequence[Contribution]) -> HeldKey:
        around, context = self._around, request.context
        around.rules.check_federation(request)
        held = await around.database.run(lambda c: store.key(c, context.key_name))
        # A key that is not held here needs no question to the key service.
        state = KeyState.ENABLED if held is None else await around.states.state(context.key_name)
        known = check_key(request, held, state)
        around.rules.check_size(request)
        around.rules.check_contributors(manifest)
        members = self._members()
        await asyncio.to_thread(check_contributions, request, manifest, members.public_key_of)
        await around.database.run(lambda c: around.rules.check_unopened(c, request, manifest))
        return known

    def _members(self) -> Members:
        around = self._around
        try:
            revocations = around.revocations.current()
        except AuthenticationError as error:  # this trustee's trouble, not the caller's identity
            raise UnavailableError(error.code, error.message) from error
        return Members(around.anchors(), revocations, around.trust_domain, around.clock())

    async def open(
        self,
        caller: str,
        request: DecryptionRequest,
        manifest: Sequence[Contribution],
        held: HeldKey,
        pieces: AsyncIterator[Piece],
    ) -> Opening:
        """Add the contributions up again and give the partial, decided and on disk.

        Args:
            caller: SPIFFE ID of who asks.
            request: admitted.
            manifest: of the request.
            held: the key, from `admit`.
            pieces: the ciphertexts of all contributions, in the order of the manifest.

        Raises:
            FinSecureError: the reason of the refusal, or why nothing could be decided.
        """
        try:
            async with self._turns:
                async with started(held) as working:
                    total = await _added(working, request, manifest, pieces)
                share = await asyncio.to_thread(
                    self._around.custody.unwrap,
                    held.wrapped_share,
                    share_context(held.description.name),
                )
                partial = await partial_of(
                    held, share, total, request.digest(), self._around.partial_timeout_s
                )
            # All of this may have taken an hour, in which the key may have gone out of use.
            check_key(request, held, await self._around.states.state(held.description.name))
            return await self._decide(caller, request, manifest, partial)
        except FinSecureError as error:
            await self._refuse(caller, request, error)
            raise

    async def _decide(
        self,
        caller: str,
        request: DecryptionRequest,
        manifest: Sequence[Contribution],
        partial: bytes,
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
            around.rules.check_unopened(connection, request, manifest)
            contributions = [(item.client, item.sha256) for item in manifest]
            store.add_opening(connection, granted, contributions, now)
            store.add_decision(connection, _decision(now, caller, request, OPENED))
            return granted

        opening = await around.database.run(decide)
        _log.info(
            "opened",
            subject=context.subject_name,
            key=context.key_name,
            contributions=request.contributions,
            request=request.digest().hex(),
            caller=caller,
        )
        return opening

    async def _refuse(self, caller: str, request: DecryptionRequest, error: FinSecureError) -> None:
        """Put a refusal on the audit trail; that nothing could be decided is none.

        A caller that is refused again and again is counted instead, so that it fills no disk.
        """
        if isinstance(error, (UnavailableError, InternalError)):
            return
        decision = _decision(self._around.clock(), caller, request, error.code, error.culprit)
        unrecorded = self._refusals.take(caller)
        if unrecorded is not None:
            counted = replace(decision, unrecorded=unrecorded)
            await self._around.database.run(lambda c: store.add_decision(c, counted))
        _log.warning(
            "refused to open",
            subject=decision.subject,
            reason=decision.verdict,
            culprit=decision.culprit,
            request=decision.request_digest.hex(),
            caller=caller,
        )


def _decision(
    now: datetime, caller: str, request: DecryptionRequest, verdict: str, culprit: str | None = None
) -> Decision:
    context = request.context
    return Decision(
        now, caller, context.subject_name, context.key_name, request.digest(), verdict, culprit
    )


async def _added(
    working: Worker,
    request: DecryptionRequest,
    manifest: Sequence[Contribution],
    pieces: AsyncIterator[Piece],
) -> bytes:
    """Let the worker add all contributions up; each and the total must have their digests."""
    offset, rest = 0, memoryview(b"")
    for contribution in manifest:
        digest, missing = hashlib.sha256(), request.size_bytes
        while missing:
            if not rest:
                piece = await anext(pieces, None)
                if piece is None or piece.offset != offset:
                    raise IntegrityError(
                        "STREAM_ORDER",
                        f"the ciphertexts do not go on at byte {offset}; send all contributions in "
                        "the order of the manifest, without gaps",
                    )
                offset, rest = offset + len(piece.content), memoryview(piece.content)
            part, rest = bytes(rest[:missing]), rest[missing:]
            missing -= len(part)
            digest.update(part)
            await working.give(part)
        if digest.digest() != contribution.sha256:
            raise ProtocolViolationError(
                "CONTRIBUTION_MISMATCH",
                f"the ciphertexts sent for {contribution.client} are not those that it signed",
                culprit=contribution.client,
            )
        await _add(working, contribution.client)
    if rest or await anext(pieces, None) is not None:
        raise IntegrityError("STREAM_ORDER", "more bytes came than the contributions have")
    total = await working.ask(worker.TOTAL)
    if hashlib.sha256(total).digest() != request.total_sha256:
        raise ProtocolViolationError(
            "TOTAL_MISMATCH", "the total that was to be opened is not the sum of the contributions"
        )
    return total


async def _add(working: Worker, client: str) -> None:
    try:
        await working.ask(worker.ADD)
    except FinSecureError as error:
        # Whatever happens while its bytes are parsed is that client's to explain.
        raise type(error)(error.code, error.message, culprit=client) from error
