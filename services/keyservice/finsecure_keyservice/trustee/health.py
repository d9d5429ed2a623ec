"""Asking a running trustee, as itself, whether it serves."""

from finsecure_crypto.certificates import Role
from finsecure_rpc.connection import Connection
from finsecure_rpc.health import check_health, local_address
from finsecure_rpc.identity_store import IdentityStore

from finsecure_keyservice.trustee.config import Configuration


async def check(configuration: Configuration) -> None:
    """Return if the trustee of this configuration serves.

    Raises:
        ConfigurationError: IDENTITY_MISSING.
        UnavailableError: SERVICE_UNREACHABLE, or NOT_SERVING if its revocation list is stale.
    """
    address = local_address(configuration.listen)
    identities = IdentityStore(configuration.identity_dir)
    async with Connection(address, identities, Role.TRUSTEE) as connection:
        await check_health(connection.channel(), address)
