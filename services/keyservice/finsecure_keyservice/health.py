"""Asking a running key service, over its enrolment listener, whether it can let anybody in."""

from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.health import check_health, local_address

from finsecure_keyservice.config import Configuration
from finsecure_keyservice.state import StateFolder


async def check(configuration: Configuration) -> None:
    """Return if the service of this configuration serves.

    Raises:
        UnavailableError: SERVICE_UNREACHABLE, or NOT_SERVING if its revocation list is stale.
    """
    address = local_address(configuration.enrol_listen)
    root_pem = StateFolder(configuration.state_dir).root.read_bytes()
    async with open_anonymous_channel(address, root_pem) as channel:
        await check_health(channel, address)
