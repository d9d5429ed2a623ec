"""The running aggregator: everything is built here, started in order, and stopped in reverse."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from finsecure_crypto.certificates import Role, SpiffeId, verify_member
from finsecure_crypto.errors import AuthenticationError, ConfigurationError, UnavailableError
from finsecure_rpc.audit import LogFollower, LogMemory
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.connection import Connection
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.database import open_database
from finsecure_rpc.encryption_keys import download_published
from finsecure_rpc.identity_store import Identity, IdentityStore
from finsecure_rpc.logs import get_logger
from finsecure_rpc.policy import federation_peers
from finsecure_rpc.renewal import Renewer
from finsecure_rpc.revocation import RevocationWatcher
from finsecure_rpc.server import Listener, RpcServer, build_server

from finsecure_aggregator import schema
from finsecure_aggregator.arithmetic import open_slices
from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.ciphers import CipherWorkers
from finsecure_aggregator.clock import SystemClock
from finsecure_aggregator.config import Configuration
from finsecure_aggregator.desk import Desk
from finsecure_aggregator.encryption import EncryptionDesk
from finsecure_aggregator.endorsements import Endorsements, key_service_signs
from finsecure_aggregator.initial_models import InitialModels
from finsecure_aggregator.key_store import KeyStore
from finsecure_aggregator.models import ModelKeeper
from finsecure_aggregator.names import Names
from finsecure_aggregator.participation import Participation
from finsecure_aggregator.policy import LIMITS, POLICY
from finsecure_aggregator.quarantine import Quarantine
from finsecure_aggregator.rechecks import Rechecks
from finsecure_aggregator.scheduler import Scheduler
from finsecure_aggregator.services import services
from finsecure_aggregator.store import Store
from finsecure_aggregator.sums.desk import AuditedSums
from finsecure_aggregator.sums.plan import SumRules
from finsecure_aggregator.sums.runner import Surroundings as SumSurroundings
from finsecure_aggregator.surroundings import Surroundings
from finsecure_aggregator.task_runner import Pace
from finsecure_aggregator.transport import RemoteTrustee
from finsecure_aggregator.uploads import Uploads
from finsecure_aggregator.verifier import PeerVerifier
from finsecure_aggregator.watchers import Changes, Presence

_log = get_logger(__name__)
_READINESS_S = 5.0
_SUMS_ADDED_AT_ONCE = 2


async def serve(configuration: Configuration) -> None:
    """Run an aggregator until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: IDENTITY_MISSING, IDENTITY_MISMATCH or LISTEN_FAILED; the owner's.
    """
    identities = IdentityStore(configuration.identity_dir)
    _require_aggregator_of(configuration.federation, identities.current())
    async with AsyncExitStack() as stack:
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
        encryption = await _encryption(configuration, identities, revocations, connection, stack)
        desk = await _desk(configuration, identities, revocations, encryption, connection, stack)
        trust_domain = identities.current().spiffe_id.trust_domain
        server = build_server(
            services(desk),
            POLICY,
            Authenticator(
                lambda: identities.current().anchors, revocations, federation_peers(trust_domain)
            ),
            [Listener(configuration.listen, server_credentials(identities))],
            LIMITS,
            reflection=configuration.reflection,
        )
        await desk.scheduler.start()
        await desk.sums.start()
        sweeps = asyncio.create_task(desk.rechecks.run())
        stack.callback(sweeps.cancel)
        readiness = asyncio.create_task(_report_readiness(server, revocations))
        stack.callback(readiness.cancel)
        await server.serve(configuration.shutdown_grace_s)


async def _report_readiness(server: RpcServer, revocations: RevocationWatcher) -> None:
    """Say NOT_SERVING while everybody would be refused for want of a revocation list."""
    while True:
        await asyncio.sleep(_READINESS_S)
        try:
            revocations.current()
        except AuthenticationError:
            await server.set_serving(False)
        else:
            await server.set_serving(True)


async def _encryption(
    configuration: Configuration,
    identities: IdentityStore,
    revocations: RevocationWatcher,
    keyservice: Connection,
    stack: AsyncExitStack,
) -> EncryptionDesk:
    settings = configuration.encryption
    workers = CipherWorkers(settings.workers, settings.silence_s)
    stack.callback(workers.close)
    trust_domain = identities.current().spiffe_id.trust_domain

    def verify(trustee: str, certificate: bytes) -> bytes:
        return verify_member(
            certificate,
            identities.current().anchors,
            revocations.current(),
            datetime.now(UTC),
            SpiffeId(trust_domain, Role.TRUSTEE, trustee),
        )

    trustees = {}
    for each in configuration.trustees:
        connection = await stack.enter_async_context(
            Connection(each.address, identities, Role.TRUSTEE)
        )
        trustees[each.id] = RemoteTrustee(each.id, connection, verify)
    follower = LogFollower(keyservice, LogMemory(configuration.identity_dir / "audit.json"))
    return EncryptionDesk(
        keys=KeyStore(
            configuration.blob_dir / "keys",
            partial(download_published, keyservice, follower),
            trust_domain,
            lambda: identities.current().anchors,
            revocations,
        ),
        workers=workers,
        trustees=trustees,
        patience_ns=round(settings.trustee_patience_s * 1e9),
    )


async def _desk(
    configuration: Configuration,
    identities: IdentityStore,
    revocations: RevocationWatcher,
    encryption: EncryptionDesk,
    keyservice: Connection,
    stack: AsyncExitStack,
) -> Desk:
    clock, changes, turns = SystemClock(), Changes(), Changes()
    if configuration.database.startswith("sqlite:///"):
        path = Path(configuration.database.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
    database = open_database(configuration.database)
    stack.callback(database.close)
    database.create(schema.metadata)
    blobs = await asyncio.to_thread(Blobs, configuration.blob_dir)
    slices = await asyncio.to_thread(open_slices, configuration.arithmetic)
    stack.push_async_callback(asyncio.to_thread, slices.close)
    store, sign = Store(database), None
    if configuration.model_key is not None:
        sign = key_service_signs(keyservice, configuration.model_key)
    around = Surroundings(
        store=store,
        blobs=blobs,
        clock=clock,
        changes=changes,
        turns=turns,
        presence=Presence(clock, changes, turns),
        verifier=PeerVerifier(
            lambda: identities.current().anchors,
            revocations,
            identities.current().spiffe_id.trust_domain,
            clock,
        ),
        grace_ns=round(configuration.reconnect_grace_s * 1e9),
        slices=slices,
        encryption=encryption,
        endorsements=Endorsements(store, sign),
    )
    quarantine = Quarantine(database)
    await quarantine.load()
    models = ModelKeeper(blobs, identities, quarantine)
    interval_ns = round(configuration.recheck_interval_h * 3600e9)
    rechecks = Rechecks(around, models, quarantine, interval_ns)
    scheduler = Scheduler(around, models, Pace(round(configuration.settle_s * 1e9)))
    stack.push_async_callback(scheduler.stop)
    sums = AuditedSums(
        SumSurroundings(
            store=around.store,
            blobs=blobs,
            clock=clock,
            changes=changes,
            verifier=around.verifier,
            encryption=encryption,
            rules=SumRules(configuration.sums.minimum_contributors, configuration.sums.at_once),
            adding=asyncio.Semaphore(_SUMS_ADDED_AT_ONCE),
        )
    )
    stack.push_async_callback(sums.stop)
    return Desk(
        names=Names(configuration.federation),
        store=around.store,
        models=models,
        rechecks=rechecks,
        scheduler=scheduler,
        participation=Participation(around.store, scheduler, Uploads(blobs), around.presence),
        initial_models=InitialModels(store, blobs, models, scheduler, clock, around.endorsements),
        presence=around.presence,
        changes=changes,
        clock=clock,
        encryption=encryption,
        sums=sums,
    )


def _require_aggregator_of(federation: str, identity: Identity) -> None:
    found = identity.spiffe_id
    if found.role is not Role.AGGREGATOR or found.trust_domain.partition(".")[0] != federation:
        raise ConfigurationError(
            "IDENTITY_MISMATCH",
            f"the identity {found} is not an aggregator of the federation {federation}; change "
            "federation or identity_dir",
        )
