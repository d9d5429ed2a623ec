"""Putting a key service together and running it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from types import MappingProxyType

from finsecure_crypto.certificate_profile import authority_domain
from finsecure_crypto.errors import ConfigurationError
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.background import running
from finsecure_rpc.bearer import TokenDoor
from finsecure_rpc.credentials import server_credentials
from finsecure_rpc.database import open_database
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.interceptors import OnRefusal
from finsecure_rpc.logs import get_logger
from finsecure_rpc.policy import Limits, Rate, domain_peers, for_people_alone
from finsecure_rpc.server import Listener, RpcServer, Service, build_server
from finsecure_rpc.sign_in import open_door

from finsecure_keyservice.approval_gate import ApprovalGate
from finsecure_keyservice.audit.mirror import started
from finsecure_keyservice.audit.service import service as audit_service
from finsecure_keyservice.audit.trail import Caller, Unrecorded
from finsecure_keyservice.authorities import Authorities
from finsecure_keyservice.authority_store import AuthorityStore
from finsecure_keyservice.backend import Backend
from finsecure_keyservice.books import Books, check_books
from finsecure_keyservice.clock import Clock, system_clock
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.decisions import Decisions
from finsecure_keyservice.feed import RevocationFeed
from finsecure_keyservice.founding import (
    auditor_of,
    enrolment_of,
    issuer_of,
    join_tokens_of,
    signed_log_of,
)
from finsecure_keyservice.keys.desk import KeyDesk
from finsecure_keyservice.keys.life import KeyLife
from finsecure_keyservice.keys.material import Material
from finsecure_keyservice.keys.serving import services as key_services
from finsecure_keyservice.keys.store import KeyStore
from finsecure_keyservice.own_identity import OwnIdentity
from finsecure_keyservice.pepper import PepperFile
from finsecure_keyservice.policy import POLICY, STAYS_OPEN
from finsecure_keyservice.protection.secret_files import CLEAR
from finsecure_keyservice.protection.vault import Vault
from finsecure_keyservice.refusals import RefusalRecorder
from finsecure_keyservice.rotation import Rotation
from finsecure_keyservice.schema import REQUESTS
from finsecure_keyservice.seal.service import OpenSeal
from finsecure_keyservice.seal.service import service as seal_service
from finsecure_keyservice.seal.unsealing import Unsealed
from finsecure_keyservice.service import services
from finsecure_keyservice.state import KeyMaterial, StateFolder
from finsecure_keyservice.upkeep import Upkeep

_log = get_logger(__name__)
_WATCH_DEADLINE_S = 3600.0
_TICK_S = 30.0


@asynccontextmanager
async def opened(
    configuration: Configuration, clock: Clock = system_clock, unsealed: Unsealed | None = None
) -> AsyncIterator[RpcServer]:
    """A key service that is ready to be started, with its upkeep running.

    Args:
        configuration: of the key service.
        clock: the time.
        unsealed: the open seal, where the configuration has one.

    Raises:
        ConfigurationError: NOT_INITIALISED, KEY_FILE_EXPOSED, STATE_DAMAGED, DATABASE_LAYOUT or
            DOMAIN_MISMATCH.
    """
    folder = StateFolder(configuration.state_dir)
    files = CLEAR if unsealed is None else unsealed.files
    vault, material = folder.open(configuration.protected_by, files)
    with closing(vault):
        async with _assembled(configuration, clock, unsealed, vault, material) as server:
            yield server


@asynccontextmanager
async def _assembled(
    configuration: Configuration,
    clock: Clock,
    unsealed: Unsealed | None,
    vault: Vault,
    material: KeyMaterial,
) -> AsyncIterator[RpcServer]:
    folder = StateFolder(configuration.state_dir)
    domain = authority_domain(material.root, root=True)
    if domain != configuration.domain:
        raise ConfigurationError(
            "DOMAIN_MISMATCH",
            f"{folder.root} belongs to the domain {domain}; correct `domain` in the configuration",
        )
    if folder.root_key.exists():
        _log.warning("the root key is still online; move it away", path=str(folder.root_key))
    authorities = Authorities(material.root, vault)
    pepper = PepperFile(folder, vault)
    enrolment = enrolment_of(configuration, pepper, authorities)
    feed = RevocationFeed(clock)
    own = OwnIdentity(IdentityStore(folder.identity), enrolment)
    signed_log = signed_log_of(configuration, vault)
    database = open_database(configuration.database)
    try:
        database.run_sync(lambda connection: check_books(connection, configuration.domain))
        database.run_sync(
            lambda connection: authorities.active(AuthorityStore(connection, Unrecorded()))
        )
        books = Books(database, feed, authorities)
        lifetime = configuration.revocation_list_lifetime
        mirror = await started(books, signed_log, configuration.audit_file)
        auditor = auditor_of(configuration, material, clock, mirror)
        if unsealed is not None:  # before anything else is decided
            record, caller = unsealed.record, Caller("")
            await books.transact(lambda c: record(auditor.trail(c, caller), configuration.domain))
        upkeep = Upkeep(books, feed, own, vault.kek, lifetime, auditor)
        await upkeep.tick()
        backend = Backend(
            books,
            feed,
            enrolment,
            issuer_of(configuration, pepper),
            join_tokens_of(configuration, pepper),
            lifetime,
            ApprovalGate(configuration.approval_lifetime, clock),
            Rotation(authorities, lifetime),
            auditor,
        )
        life = KeyLife(books, auditor, Material(vault), str(own.spiffe_id))
        desk = KeyDesk(
            Decisions(books, auditor, REQUESTS, KeyStore),
            backend.gate,
            Material(vault),
            life,
            configuration.domain,
        )
        more = [
            audit_service(books, signed_log),
            seal_service(OpenSeal(backend, unsealed)),
            *key_services(desk),
        ]
        refusals = RefusalRecorder(books, auditor)
        door, follow_keys = open_door(
            configuration.oidc, configuration.domain, for_people_alone(POLICY), clock
        )
        server = _server(configuration, backend, more, own, clock, refusals.note, door)
        shortest = min(lifetime, configuration.certificate_lifetime)
        interval_s = min(_TICK_S, shortest.total_seconds() / 8)
        async with AsyncExitStack() as stack:
            if mirror is not None:
                stack.push_async_callback(mirror.stop)
            stack.push_async_callback(refusals.drain)
            await stack.enter_async_context(
                running(upkeep.run(interval_s, server.set_serving), life.run(), follow_keys())
            )
            yield server
    finally:
        database.close()


def _server(
    configuration: Configuration,
    backend: Backend,
    more: Sequence[Service],
    own: OwnIdentity,
    clock: Clock,
    on_refusal: OnRefusal,
    door: TokenDoor | None,
) -> RpcServer:
    authenticator = Authenticator(
        backend.feed.anchors, backend.feed, domain_peers(configuration.domain), clock
    )
    listeners = [
        Listener(configuration.listen, server_credentials(own)),
        Listener(configuration.enrol_listen, server_credentials(own, client_certificates=False)),
    ]
    limits = Limits(
        deadlines=MappingProxyType(dict.fromkeys(STAYS_OPEN, _WATCH_DEADLINE_S)),
        rate=Rate.steady(configuration.limits.member_calls_per_s),
        anonymous_rate=Rate.steady(configuration.limits.enrolment_calls_per_s),
    )
    return build_server(
        [*services(backend), *more],
        POLICY,
        authenticator,
        listeners,
        limits,
        reflection=configuration.reflection,
        on_refusal=on_refusal,
        door=door,
    )
