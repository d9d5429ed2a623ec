"""The running aggregator: everything is built here, started in order, and stopped in reverse."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from finsecure_crypto.certificates import Role, SpiffeId, verify_member
from finsecure_rpc.audit import LogFollower, trustee_log
from finsecure_rpc.background import running
from finsecure_rpc.connection import Connection
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.database import open_own_database
from finsecure_rpc.encryption_keys import download_published
from finsecure_rpc.enrolled_service import (
    EnrolledService,
    connected,
    own_identities,
    reporting_readiness,
)
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.log_memory import LogMemory
from finsecure_rpc.policy import Limits, Rate
from finsecure_rpc.server import Listener, build_server
from finsecure_rpc.sign_in import open_door

from finsecure_aggregator import schema
from finsecure_aggregator.arithmetic import open_slices
from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.ciphers import CipherWorkers
from finsecure_aggregator.clock import SystemClock
from finsecure_aggregator.config import Configuration
from finsecure_aggregator.desk import Desk
from finsecure_aggregator.encryption import EncryptionDesk
from finsecure_aggregator.endorsements import Endorsements, key_service_signs
from finsecure_aggregator.followed_trustee import FollowedTrustee
from finsecure_aggregator.gathering import Pace
from finsecure_aggregator.initial_models import InitialModels
from finsecure_aggregator.key_store import KeyStore
from finsecure_aggregator.models import ModelKeeper
from finsecure_aggregator.names import Names
from finsecure_aggregator.participation import Participation
from finsecure_aggregator.policy import LIMITS, POLICY, TOKEN_METHODS
from finsecure_aggregator.quarantine import Quarantine
from finsecure_aggregator.rechecks import Rechecks
from finsecure_aggregator.scheduler import Scheduler
from finsecure_aggregator.services import services
from finsecure_aggregator.store import Store
from finsecure_aggregator.sums.desk import AuditedSums
from finsecure_aggregator.sums.plan import SumRules
from finsecure_aggregator.sums.runner import Surroundings as SumSurroundings
from finsecure_aggregator.surroundings import Surroundings
from finsecure_aggregator.transport import RemoteTrustee
from finsecure_aggregator.uploads import Uploads
from finsecure_aggregator.verifier import PeerVerifier
from finsecure_aggregator.watchers import Changes, Presence

_SUMS_ADDED_AT_ONCE = 2


async def serve(configuration: Configuration) -> None:
    """Run an aggregator until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: IDENTITY_MISSING, IDENTITY_MISMATCH, DATABASE_LAYOUT or LISTEN_FAILED;
            the owner's.
    """
    identities = own_identities(configuration, Role.AGGREGATOR)
    async with AsyncExitStack() as stack:
        member = await stack.enter_async_context(connected(configuration, identities))
        encryption = await _encryption(configuration, member, stack)
        desk = await _desk(configuration, member, encryption, stack)
        door, follow_keys = open_door(configuration.oidc, member.anchors().domain, TOKEN_METHODS)
        server = build_server(
            services(desk),
            POLICY,
            member.authenticator(),
            _listeners(configuration, identities),
            _limits(configuration),
            reflection=configuration.reflection,
            door=door,
        )
        await desk.scheduler.start()
        await desk.sums.start()
        await stack.enter_async_context(running(desk.rechecks.run(), follow_keys()))
        await stack.enter_async_context(reporting_readiness(server, partial(_ready, member)))
        await server.serve(configuration.shutdown_grace_s)


def _listeners(configuration: Configuration, identities: IdentityStore) -> list[Listener]:
    """Where members come with certificates and, if there is a provider, people with tokens."""
    listeners = [Listener(configuration.listen, server_credentials(identities))]
    if configuration.operator_listen is not None:
        without = server_credentials(identities, client_certificates=False)
        listeners.append(Listener(configuration.operator_listen, without))
    return listeners


def _limits(configuration: Configuration) -> Limits:
    if configuration.operator_listen is None:
        return LIMITS
    return replace(LIMITS, anonymous_rate=Rate.steady(configuration.operator_calls_per_s))


async def _ready(member: EnrolledService) -> bool:
    """Tell whether anybody can be let in; nobody can without a revocation list."""
    member.revocations.current()
    return True


async def _encryption(
    configuration: Configuration, member: EnrolledService, stack: AsyncExitStack
) -> EncryptionDesk:
    settings = configuration.encryption
    workers = CipherWorkers(settings.workers, settings.silence_s)
    stack.callback(workers.close)

    def verify(trustee: str, certificate: bytes) -> bytes:
        return verify_member(
            certificate,
            member.anchors(),
            member.revocations.current(),
            datetime.now(UTC),
            SpiffeId(member.trust_domain, Role.TRUSTEE, trustee),
        )

    trustees = {}
    for each in configuration.trustees:
        connection = await stack.enter_async_context(
            Connection(each.address, member.identities, Role.TRUSTEE)
        )
        log = LogFollower(
            connection,
            LogMemory(configuration.identity_dir / f"audit-{each.id}.json"),
            origin=trustee_log(member.trust_domain, each.id),
        )
        trustees[each.id] = FollowedTrustee(RemoteTrustee(each.id, connection, verify), log)
    return EncryptionDesk(
        keys=KeyStore(
            configuration.blob_dir / "keys",
            partial(download_published, member.keyservice, member.log),
            member.trust_domain,
            member.anchors,
            member.revocations,
        ),
        workers=workers,
        trustees=trustees,
        patience_ns=round(settings.trustee_patience_s * 1e9),
    )


async def _desk(
    configuration: Configuration,
    member: EnrolledService,
    encryption: EncryptionDesk,
    stack: AsyncExitStack,
) -> Desk:
    clock, changes, turns = SystemClock(), Changes(), Changes()
    database = open_own_database(configuration.database)
    stack.callback(database.close)
    database.run_sync(schema.prepare)
    blobs = await asyncio.to_thread(Blobs, configuration.blob_dir)
    slices = await asyncio.to_thread(open_slices, configuration.arithmetic)
    stack.push_async_callback(asyncio.to_thread, slices.close)
    store, sign = Store(database), None
    if configuration.model_key is not None:
        sign = key_service_signs(member.keyservice, configuration.model_key)
    around = Surroundings(
        store=store,
        blobs=blobs,
        clock=clock,
        changes=changes,
        turns=turns,
        presence=Presence(clock, changes, turns),
        verifier=PeerVerifier(
            member.anchors,
            member.revocations,
            member.trust_domain,
            clock,
        ),
        grace_ns=round(configuration.reconnect_grace_s * 1e9),
        slices=slices,
        encryption=encryption,
        endorsements=Endorsements(store, sign),
        minima=member.minima,
    )
    quarantine = Quarantine(database)
    await quarantine.load()
    models = ModelKeeper(blobs, member.identities, quarantine)
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
            minima=member.minima,
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
        minima=member.minima,
        sums=sums,
    )
