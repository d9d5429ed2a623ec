"""The running trustee: everything is built here, started in order, and stopped in reverse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_rpc.background import running
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.enrolled_service import (
    EnrolledService,
    connected,
    own_identities,
    reporting_readiness,
)
from finsecure_rpc.server import Listener, RpcServer, build_server

from finsecure_keyservice.audit import mirror as mirrors
from finsecure_keyservice.audit.service import service as audit_service
from finsecure_keyservice.audit.signed_log import SignedLog
from finsecure_keyservice.clock import system_clock
from finsecure_keyservice.protection.kek import KeyEncryptionKey
from finsecure_keyservice.protection.opening import open_kek
from finsecure_keyservice.refusals import RefusalRecorder
from finsecure_keyservice.trustee.books import Books, opened_books
from finsecure_keyservice.trustee.ceremonies import Ceremonies
from finsecure_keyservice.trustee.config import Configuration
from finsecure_keyservice.trustee.dealt_shares import DealtShares
from finsecure_keyservice.trustee.erasures import Erasures
from finsecure_keyservice.trustee.holdings import Holdings
from finsecure_keyservice.trustee.opening import Openings
from finsecure_keyservice.trustee.policy import LIMITS, POLICY
from finsecure_keyservice.trustee.rules import Rules
from finsecure_keyservice.trustee.schemes import steps_of
from finsecure_keyservice.trustee.service import Desk, services
from finsecure_keyservice.trustee.surroundings import Surroundings
from finsecure_keyservice.trustee.transport import RegisteredStates

_MIB = 1 << 20


async def serve(configuration: Configuration) -> None:
    """Run a trustee until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: IDENTITY_MISSING, IDENTITY_MISMATCH, KEY_FILE_*, DATABASE_* or
            LISTEN_FAILED; the owner's.
        IntegrityError: AUDIT_LOG_ROLLED_BACK, AUDIT_LOG_FORKED: the database
            is not the one that the second copy of its log was made from, such as an older copy.
    """
    async with opened(configuration) as server:
        await server.serve(configuration.shutdown_grace_s)


@asynccontextmanager
async def opened(configuration: Configuration) -> AsyncIterator[RpcServer]:
    """A trustee that is ready to be started."""
    identities = own_identities(configuration, Role.TRUSTEE)
    custody = open_kek(configuration.protection)
    async with AsyncExitStack() as stack:
        own = identities.current().spiffe_id
        books, log = await _books(configuration, custody, own, stack)
        member = await stack.enter_async_context(connected(configuration, identities))
        around = _surroundings(configuration, custody, member, books)
        holdings = Holdings(around, identities)
        erasures = Erasures(around, own, timedelta(days=configuration.erasure.grace_d))
        desk = Desk(
            Openings(around, erasures, configuration.openings.at_once),
            holdings,
            Ceremonies(around, holdings, identities, steps_of),
            DealtShares(books, holdings, identities, accepted=configuration.dealt_keys),
            identities,
        )
        refusals = RefusalRecorder(books, books.auditor)
        stack.push_async_callback(refusals.drain)
        server = build_server(
            [*services(desk), audit_service(books, log)],
            POLICY,
            member.authenticator(),
            [Listener(configuration.listen, server_credentials(identities))],
            LIMITS,
            reflection=configuration.reflection,
            on_refusal=refusals.note,
        )
        await stack.enter_async_context(reporting_readiness(server, partial(_ready, around)))
        reviews = erasures.run(configuration.erasure.interval_s)
        await stack.enter_async_context(running(reviews))
        yield server


async def _books(
    configuration: Configuration, custody: KeyEncryptionKey, own: SpiffeId, stack: AsyncExitStack
) -> tuple[Books, SignedLog]:
    """The database, compared with the second copy of its log before anything is decided."""
    books, log = opened_books(
        configuration.database, configuration.federation, own, custody, system_clock
    )
    stack.callback(books.database.close)
    mirror = await mirrors.started(books, log, configuration.audit_file)
    if mirror is None:
        return books, log
    stack.push_async_callback(mirror.stop)
    watched = replace(books.auditor, admit=mirror.admit, healthy=lambda: mirror.healthy)
    return replace(books, auditor=watched), log


def _surroundings(
    configuration: Configuration, custody: KeyEncryptionKey, member: EnrolledService, books: Books
) -> Surroundings:
    openings = configuration.openings
    return Surroundings(
        books=books,
        custody=custody,
        states=RegisteredStates(member.keyservice, member.log),
        minima=member.minima,
        anchors=member.anchors,
        revocations=member.revocations,
        trust_domain=member.trust_domain,
        rules=Rules(
            federation=configuration.federation,
            minimum_round_cohort=openings.minimum_round_cohort,
            minimum_sum_cohort=openings.minimum_sum_cohort,
            decryptions_per_key=openings.decryptions_per_key,
            maximum_bytes=openings.maximum_input_mib * _MIB,
            contributors=openings.contributors,
        ),
        partial_timeout_s=openings.partial_timeout_s,
    )


async def _ready(around: Surroundings) -> bool:
    """Tell whether anything can be decided.

    It cannot without a revocation list, while the shares cannot be unwrapped, or while the log or
    its second copy cannot be written.
    """
    auditor = around.books.auditor
    around.revocations.current()
    await asyncio.to_thread(around.custody.check)
    await around.books.transact(auditor.log.touch)
    return auditor.healthy()
