"""Giving shares on the service's own machine, over the socket in its state folder."""

from collections.abc import Sequence

from finsecure.keyservice.v1 import seal_pb2
from finsecure_crypto.key_seal import OperatorShare
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.health import local_address
from finsecure_rpc.unsealing import (
    await_open,
    describe,
    give_shares,
    local_target,
    open_local_channel,
)

from finsecure_keyservice.config import Configuration
from finsecure_keyservice.state import StateFolder


async def unseal(configuration: Configuration, shares: Sequence[OperatorShare]) -> str:
    """Give shares and, if they are enough, wait until the service serves; returns what to say.

    The socket says who is asked, so this works after the service's certificate has ended. An open
    service has a new one.

    Raises:
        InvalidArgumentError, AuthenticationError: the share is refused.
        UnavailableError: SERVICE_UNREACHABLE when no sealed service runs here; UNSEALING_FAILED.
    """
    folder = StateFolder(configuration.state_dir)
    target = local_target(folder.socket)
    async with open_local_channel(target) as channel:
        status = await give_shares(channel, target, shares)
    if status.state == seal_pb2.SEAL_STATE_OPENING:
        address = local_address(configuration.enrol_listen)
        async with open_anonymous_channel(address, folder.root.read_bytes()) as channel:
            status = await await_open(channel, address)
    return describe(status)
