"""The operator's follower of an audit log: whole verification, export, tail.

The log is the key service's, or a trustee's own.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from finsecure_crypto.certificates import Role
from finsecure_crypto.checkpoint import Checkpoint, LogVerifier
from finsecure_crypto.errors import UnavailableError
from finsecure_crypto.log_verification import LogReader
from finsecure_rpc.audit import LogFollower, trustee_log
from finsecure_rpc.connection import Connection
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.log_file import LogFile
from finsecure_rpc.log_memory import LogMemory

from finsecure_cli.renewal import renew_if_due
from finsecure_cli.settings import OperatorSettings, load_operator
from finsecure_cli.token_option import require_certificate

T = TypeVar("T")


def memory_of(settings: OperatorSettings, trustee: str = "") -> LogMemory:
    """What this operator remembers of the log of the key service, or of a trustee."""
    name = f"audit-{trustee}.json" if trustee else "audit.json"
    return LogMemory(settings.identity_dir / name)


class OperatorLog:
    """The log as an operator reads it.

    Attributes:
        follower: checks that it only grows.
        memory: what was remembered before.
    """

    def __init__(self, follower: LogFollower, memory: LogMemory) -> None:
        self.follower = follower
        self.memory = memory

    async def tail(self, count: int, show: Callable[[bytes], None], *, follow: bool) -> None:
        """Show the last events, and go on with new ones if asked to."""
        position = max(0, (await self.follower.advance()).size - count)
        if not follow:
            async for leaf in self.follower.events(position):
                show(leaf)
            return
        while True:
            try:
                async for leaves, _ in self.follower.watch(position):
                    for leaf in leaves:
                        show(leaf)
                    position += len(leaves)
            except UnavailableError as error:
                if error.code != "DEADLINE_EXCEEDED":  # an hour is over
                    raise


async def with_log(
    config: Path,
    act: Callable[[OperatorLog], Awaitable[T]],
    verifier: LogVerifier | None = None,
    trustee: str = "",
) -> T:
    """Connect as the operator that the configuration names and run `act`.

    Args:
        config: the operator's configuration file.
        act: gets the log.
        verifier: the log's key, where it was given out of band.
        trustee: id of whose log it is; empty for the key service.

    Raises:
        ConfigurationError: TRUSTEE_UNKNOWN, CERTIFICATE_NEEDED.
        FinSecureError: what the configuration, the identity or the service say.
    """
    require_certificate()
    settings = load_operator(config)
    await renew_if_due(settings)
    identities = IdentityStore(settings.identity_dir)
    memory = memory_of(settings, trustee)
    origin = ""
    if trustee:
        domain = identities.current().spiffe_id.trust_domain
        origin = trustee_log(f"{settings.federation}.{domain}", trustee)
    async with _connection(settings, identities, trustee) as connection:
        return await act(OperatorLog(LogFollower(connection, memory, verifier, origin), memory))


def _connection(settings: OperatorSettings, identities: IdentityStore, trustee: str) -> Connection:
    if not trustee:
        return Connection(settings.keyservice, identities, Role.KEYSERVICE)
    address, federation = settings.trustee_address(trustee), settings.federation
    return Connection(address, identities, Role.TRUSTEE, federation=federation)


async def verify_log(log: OperatorLog) -> Checkpoint:
    """Read the whole log and compare it with the newest checkpoint and the remembered one.

    Raises:
        IntegrityError: what `LogFollower.advance` and `LogReader` raise; the log's fault.
    """
    known = log.memory.load()
    checkpoint = await log.follower.advance()
    reader = LogReader(known.checkpoint if known else None)
    if checkpoint.size:
        async for leaf in log.follower.events():
            reader.take(leaf)
            if reader.size == checkpoint.size:
                break
    reader.check(checkpoint)
    return checkpoint


async def export_log(log: OperatorLog, output: Path, *, follow: bool) -> Checkpoint:
    """Append what is missing in an export, each batch with a checkpoint that was compared with it.

    Raises:
        IntegrityError: the file or the log is not what it was.
    """
    checkpoint = await log.follower.advance()
    with LogFile(output, checkpoint) as file:
        while True:
            try:
                async for leaves, note in log.follower.watch(file.size):
                    file.append(leaves, note)
                    signed = file.checkpoint
                    if not follow and signed is not None and signed.size >= checkpoint.size:
                        return signed
            except UnavailableError as error:
                if error.code != "DEADLINE_EXCEEDED":  # an hour is over
                    raise
