"""Asking a running key service, over its enrolment listener, whether it can let anybody in."""

import re

from finsecure_crypto.errors import UnavailableError
from finsecure_rpc.call import call
from finsecure_rpc.channel import open_anonymous_channel
from grpc_health.v1 import health_pb2, health_pb2_grpc

from finsecure_keyservice.config import Configuration
from finsecure_keyservice.state import StateFolder

_DEADLINE_S = 5.0
_EVERY_INTERFACE = re.compile(r"^(0\.0\.0\.0|\[::\])(?=:)")


async def check(configuration: Configuration) -> None:
    """Return if the service of this configuration serves.

    Raises:
        UnavailableError: SERVICE_UNREACHABLE, or NOT_SERVING if its revocation list is stale.
    """
    address = _EVERY_INTERFACE.sub("localhost", configuration.enrol_listen)
    root_pem = StateFolder(configuration.state_dir).root.read_bytes()
    async with open_anonymous_channel(address, root_pem) as channel:
        answer = await call(
            health_pb2_grpc.HealthStub(channel).Check,
            health_pb2.HealthCheckRequest(),
            deadline_s=_DEADLINE_S,
            address=address,
        )
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise UnavailableError(
            "NOT_SERVING", f"the key service at {address} lets nobody in; its log says why"
        )
