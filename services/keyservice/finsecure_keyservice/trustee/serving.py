"""The running trustee: everything is built here, started in order, and stopped in reverse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_crypto.errors import ConfigurationError, FinSecureError, UnavailableError
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.connection import Connection
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.identity_store import Identity, IdentityStore
from finsecure_rpc.logs import get_logger
from finsecure_rpc.policy import federation_peers
from finsecure_rpc.renewal import Renewer
from finsecure_rpc.revocation import RevocationWatcher
from finsecure_rpc.server import Listener, RpcServer, build_server

from finsecure_keyservice.audit import mirror as mirrors
from finsecure_keyservice.audit.secrets import AuditSecrets
from finsecure_keyservice.audit.service import service as audit_service
from finsecure_keyservice.clock import system_clock
from finsecure_keyservice.protection.kek import KeyEncryptionKey
from finsecure_keyservice.protection.opening import open_kek
from finsecure_keyservice.refusals import RefusalRecorder
from finsecure_keyservice.trustee.books import LOG, Books, opened_books
from finsecure_keyservice.trustee.ceremonies import Ceremonies
from finsecure_keyservice.trustee.config import Configuration
from finsecure_keyservice.trustee.dealt_shares import DealtShares
from finsecure_keyservice.trustee.holdings import Holdings
from finsecure_keyservice.trustee.opening import Openings
from finsecure_keyservice.trustee.policy import LIMITS, POLICY
from finsecure_keyservice.trustee.rules import Rules
from finsecure_keyservice.trustee.schemes import steps_of
from finsecure_keyservice.trustee.service import Desk, services
from finsecure_keyservice.trustee.surroundings import RevocationSource, Surroundings
from finsecure_keyservice.trustee.transport import RegisteredStates

_log = get_logger(__name__)
_READINESS_S = 5.0
_MIB = 1 << 20


async def serve(configuration: Configuration) -> None:
    """Run a trustee until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: IDENTITY_MISSING, IDENTITY_MISMATCH, KEY_FILE_*, DATABASE_* or
            LISTEN_FAILED; the owner's.
        IntegrityError: AUDIT_LOG_ROLLED_BACK, AUDIT_LOG_FORKED, CHECKPOINT_UNTRUSTED: the database
            is not the one that the second copy of its log was made from, such as an older copy.
    """
    async with opened(configuration) as server:
        await server.serve(configuration.shutdown_grace_s)


@asynccontextmanager
async def opened(configuration: Configuration) -> AsyncIterator[RpcServer]:
    """A trustee that is ready to be started."""
    identities = IdentityStore(configuration.identity_dir)
    _require_trustee_of(configuration.federation, identities.current())
    custody = open_kek(configuration.protection)
    async with AsyncExitStack() as stack:
        own = identities.current().spiffe_id
        books, secrets = await _books(configuration, custody, own, stack)
        connection = await stack.enter_async_context(
            Connection(configuration.keyservice, identities, Role.KEYSERVICE)
        )
        revocations = RevocationWatcher(
            connection,
            lambda: identities.current().anchors,
            identities=identities,
            cache=configuration.identity_dir / "revocations.crl",
        )
        stack.push_async_callback(revocations.stop)
        try:
            await revocations.start()
        except UnavailableError as error:
            # It goes on trying; until a list comes, every call is refused with the reason.
            _log.warning("started without a revocation list", error=str(error))
        await stack.enter_async_context(
            Renewer(identities, connection, tainted=revocations.tainted)
        )
        around = _surroundings(configuration, custody, identities, revocations, connection, books)
        holdings = Holdings(around, identities)
        desk = Desk(
            Openings(around, configuration.openings.at_once),
            holdings,
            Ceremonies(around, holdings, identities, steps_of),
            DealtShares(books, holdings, identities, accepted=configuration.dealt_keys),
            identities,
        )
        refusals = RefusalRecorder(books, books.auditor)
        stack.push_async_callback(refusals.drain)
        server = build_server(
            [*services(desk), audit_service(books, LOG, secrets.signer)],
            POLICY,
            Authenticator(
                lambda: identities.current().anchors,
                revocations,
                federation_peers(around.trust_domain),
            ),
            [Listener(configuration.listen, server_credentials(identities))],
            LIMITS,
            reflection=configuration.reflection,
            on_refusal=refusals.note,
        )
        readiness = asyncio.create_task(_report_readiness(server, around))
        stack.callback(readiness.cancel)
        yield server


async def _books(
    configuration: Configuration, custody: KeyEncryptionKey, own: SpiffeId, stack: AsyncExitStack
) -> tuple[Books, AuditSecrets]:
    """The database, compared with the second copy of its log before anything is decided."""
    books, secrets = opened_books(
        configuration.database, configuration.federation, own, custody, system_clock
    )
    stack.callback(books.database.close)
    mirror = await mirrors.started(books, LOG, secrets.signer, configuration.audit_file)
    if mirror is None:
        return books, secrets
    stack.push_async_callback(mirror.stop)
    watched = replace(books.auditor, admit=mirror.admit, healthy=lambda: mirror.healthy)
    return replace(books, auditor=watched), secrets


def _surroundings(
    configuration: Configuration,
    custody: KeyEncryptionKey,
    identities: IdentityStore,
    revocations: RevocationSource,
    connection: Connection,
    books: Books,
) -> Surroundings:
    openings = configuration.openings
    return Surroundings(
        books=books,
        custody=custody,
        states=RegisteredStates(connection),
        anchors=lambda: identities.current().anchors,
        revocations=revocations,
        trust_domain=identities.current().spiffe_id.trust_domain,
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


async def _report_readiness(server: RpcServer, around: Surroundings) -> None:
    """Say NOT_SERVING while nothing can be decided.

    That is without a revocation list, while the shares cannot be unwrapped, or while the log or
    its second copy cannot be written.
    """
    auditor = around.books.auditor
    while True:
        await asyncio.sleep(_READINESS_S)
        try:
            around.revocations.current()
            await asyncio.to_thread(around.custody.check)
            await around.books.transact(auditor.log.touch)
        except FinSecureError as error:
            _log.warning("not ready", error=str(error))
            await server.set_serving(False)
        else:
            await server.set_serving(auditor.healthy())


def _require_trustee_of(federation: str, identity: Identity) -> None:
    found = identity.spiffe_id
    if found.role is not Role.TRUSTEE or found.trust_domain.partition(".")[0] != federation:
        raise ConfigurationError(
            "IDENTITY_MISMATCH",
            f"the identity {found} is not a trustee of the federation {federation}; change "
            "federation or identity_dir",
        )
