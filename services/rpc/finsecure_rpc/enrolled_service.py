"""What every service of an enrolled member starts and stops in the same way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from finsecure_crypto.certificates import Role, TrustAnchors
from finsecure_crypto.errors import ConfigurationError, FinSecureError, UnavailableError
from pydantic import Field

from finsecure_rpc.admission import Admission
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.background import running
from finsecure_rpc.config import Address, DatabaseUrl, LogLevel, MemberSettings
from finsecure_rpc.connection import Connection
from finsecure_rpc.enrolment import enrol, read_root
from finsecure_rpc.federation_minima import SERVER_AGE_S, FederationMinima
from finsecure_rpc.health import check_health, local_address
from finsecure_rpc.identity_store import Identity, IdentityStore
from finsecure_rpc.log_memory import LogMemory
from finsecure_rpc.logs import get_logger
from finsecure_rpc.policy import federation_peers
from finsecure_rpc.renewal import Renewer
from finsecure_rpc.revocation import RevocationWatcher
from finsecure_rpc.server import RpcServer

_log = get_logger(__name__)
_READINESS_S = 5.0


class EnrolledServiceSettings(MemberSettings):
    """What the owner of every such service decides."""

    listen: Address
    database: DatabaseUrl

    log_level: LogLevel = "INFO"
    reflection: bool = False
    shutdown_grace_s: float = Field(default=5, ge=0, le=300)


@dataclass(frozen=True)
class EnrolledService:
    """An enrolled service that knows whom it may believe.

    Attributes:
        identities: its own identity, which renews itself.
        keyservice: connection to the key service.
        revocations: follows the revocation list.
        log: follows the key service's audit log.
        minima: the minimum cohorts of its federation.
    """

    identities: IdentityStore
    keyservice: Connection
    revocations: RevocationWatcher
    log: LogFollower
    minima: FederationMinima

    @property
    def trust_domain(self) -> str:
        """Trust domain of the federation."""
        return self.identities.current().spiffe_id.trust_domain

    def anchors(self) -> TrustAnchors:
        """Return the authorities that are believed now."""
        return self.identities.current().anchors

    def authenticator(self) -> Authenticator:
        """Make what lets in the members of the federation, and operators."""
        return Authenticator(self.anchors, self.revocations, federation_peers(self.trust_domain))


async def enrol_service(settings: EnrolledServiceSettings, admission: Admission) -> Identity:
    """Let a service come in: make keys, get certificates for them, write the identity folder.

    Raises:
        ConflictError: IDENTITY_EXISTS.
        ConfigurationError: ROOT_MISSING or ROOT_INVALID; the owner's.
        FinSecureError: what the key service answers, or that it cannot be reached.
    """
    root = read_root(settings.root)
    return await enrol(settings.keyservice_enrol, root, admission, settings.identity_dir)


def own_identities(settings: EnrolledServiceSettings, role: Role) -> IdentityStore:
    """Open the identity folder of a service.

    Raises:
        ConfigurationError: IDENTITY_MISSING, or IDENTITY_MISMATCH for an identity of another role
            or federation; the owner's.
    """
    identities = IdentityStore(settings.identity_dir)
    found = identities.current().spiffe_id
    if found.role is not role or found.trust_domain.partition(".")[0] != settings.federation:
        raise ConfigurationError(
            "IDENTITY_MISMATCH",
            f"the identity {found} has not the role {role.value} in the federation "
            f"{settings.federation}; change federation or identity_dir",
        )
    return identities


@asynccontextmanager
async def connected(
    settings: EnrolledServiceSettings, identities: IdentityStore
) -> AsyncIterator[EnrolledService]:
    """Connect to the key service; follow revocations and renew the identity meanwhile."""
    async with AsyncExitStack() as stack:
        keyservice = await stack.enter_async_context(
            Connection(settings.keyservice, identities, Role.KEYSERVICE)
        )
        revocations = await stack.enter_async_context(
            kept_current(keyservice, identities, settings.identity_dir, patient=True)
        )
        log = LogFollower(keyservice, LogMemory(settings.identity_dir / "audit.json"))
        minima = FederationMinima(
            keyservice,
            log,
            f"federations/{settings.federation}",
            settings.identity_dir / "minima.json",
            SERVER_AGE_S,
        )
        yield EnrolledService(identities, keyservice, revocations, log, minima)


@asynccontextmanager
async def kept_current(
    keyservice: Connection, identities: IdentityStore, folder: Path, *, patient: bool
) -> AsyncIterator[RevocationWatcher]:
    """Follow the revocation list and renew the own certificates.

    Args:
        keyservice: connection to the key service.
        identities: identity folder that renews itself.
        folder: where the list is kept across restarts.
        patient: begin although the key service cannot be reached; until a list comes, nobody is
            believed.

    Raises:
        UnavailableError: SERVICE_UNREACHABLE, unless patient.
    """
    revocations = RevocationWatcher(
        keyservice,
        lambda: identities.current().anchors,
        identities=identities,
        cache=folder / "revocations.crl",
    )
    try:
        try:
            await revocations.start()
        except UnavailableError as error:
            if not patient:
                raise
            _log.warning("started without a revocation list", error=str(error))
        async with Renewer(identities, keyservice, tainted=revocations.tainted):
            yield revocations
    finally:
        await revocations.stop()


@asynccontextmanager
async def reporting_readiness(
    server: RpcServer, ready: Callable[[], Awaitable[bool]]
) -> AsyncIterator[None]:
    """Say in the health service, again and again, whether the server does its work.

    Args:
        server: that is asked for its health.
        ready: tells whether it can work; it cannot either while this raises a FinSecureError.
    """

    async def report() -> None:
        while True:
            await asyncio.sleep(_READINESS_S)
            try:
                serving = await ready()
            except FinSecureError as error:
                _log.warning("not ready", error=str(error))
                serving = False
            await server.set_serving(serving)

    async with running(report()):
        yield


async def check_enrolled_service(settings: EnrolledServiceSettings, role: Role) -> None:
    """Return if the service of this configuration serves; it is asked as itself.

    Raises:
        ConfigurationError: IDENTITY_MISSING.
        UnavailableError: SERVICE_UNREACHABLE, or NOT_SERVING if its revocation list is stale.
    """
    address = local_address(settings.listen)
    identities = IdentityStore(settings.identity_dir)
    async with Connection(address, identities, role) as connection:
        await check_health(connection.channel(), address)
