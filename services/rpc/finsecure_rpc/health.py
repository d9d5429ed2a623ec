"""Asking a running service whether it does its work, as a container's health check does."""

import re

import grpc
from finsecure_crypto.errors import UnavailableError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from finsecure_rpc.call import call

_DEADLINE_S = 5.0
_EVERY_INTERFACE = re.compile(r"^(0\.0\.0\.0|\[::\])(?=:)")


def local_address(listen: str) -> str:
    """Return the address at which a listener is reached from its own machine."""
    return _EVERY_INTERFACE.sub("localhost", listen)


async def check_health(channel: grpc.aio.Channel, address: str) -> None:
    """Return if the service at the other end of the channel serves.

    Raises:
        UnavailableError: SERVICE_UNREACHABLE, or NOT_SERVING if it says so itself.
    """
    answer = await call(
        health_pb2_grpc.HealthStub(channel).Check,
        health_pb2.HealthCheckRequest(),
        deadline_s=_DEADLINE_S,
        address=address,
    )
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise UnavailableError(
            "NOT_SERVING", f"the service at {address} does not serve; its log says why"
        )
