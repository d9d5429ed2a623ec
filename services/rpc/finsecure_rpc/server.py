"""Servers: what every service starts and stops in the same way."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from finsecure_crypto.errors import ConfigurationError, FinSecureError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection as reflection_service

from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.bearer import TokenDoor
from finsecure_rpc.channel import MESSAGE_LIMIT
from finsecure_rpc.interceptors import Guard, OnRefusal
from finsecure_rpc.logs import get_logger
from finsecure_rpc.policy import HEALTH_POLICY, REFLECTION_POLICY, Limits, Policy

_log = get_logger(__name__)

Service = tuple[Callable[[Any, grpc.aio.Server], None], Any]
"""A generated `add_…Servicer_to_server` with the servicer."""

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 100),
    # A small compressed message may unpack to a huge one, so only plain ones are taken.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # Two servers on one port would share its calls in silence.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 3),
    ("grpc.server_handshake_timeout_ms", 20_000),
    # Thousands of clients answer an instruction at the same moment. They wait for their turn rather
    # than being sent away to come again: gRPC's own bounds are 1000 to 3000 calls and 30 seconds.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
    ("grpc.server_max_unrequested_time_in_server", 60),
]


@dataclass(frozen=True)
class Listener:
    """An address with the credentials that are used there.

    Attributes:
        address: `host:port`; port 0 takes a free one.
        credentials: from `server_credentials`.
    """

    address: str
    credentials: grpc.ServerCredentials


class RpcServer:
    """A server with health service, that stops gracefully."""

    def __init__(
        self,
        server: grpc.aio.Server,
        health_servicer: Any,
        names: Sequence[str],
        ports: Sequence[int],
        *,
        closed: bool = False,
    ) -> None:
        self._closed = closed
        self._server = server
        self._health = health_servicer
        self._names = ("", *names)
        self.ports = tuple(ports)

    async def set_serving(self, serving: bool) -> None:
        """Say in the health service whether this server does its work."""
        status = (
            health_pb2.HealthCheckResponse.SERVING
            if serving
            else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in self._names:
            await self._health.set(name, status)

    async def start(self) -> None:
        """Begin to serve."""
        await self._server.start()
        await self.set_serving(not self._closed)
        _log.info("serving", ports=list(self.ports))

    async def stop(self, grace_s: float = 5.0) -> None:
        """Refuse new calls, let open ones finish for some seconds, then cancel them."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        _log.info("stopped")

    async def serve(self, grace_s: float = 5.0, until: asyncio.Event | None = None) -> bool:
        """Serve until SIGTERM, SIGINT or an event, then stop gracefully.

        Returns:
            Whether it was a signal.
        """
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        waits = [asyncio.create_task(event.wait()) for event in (asked, until) if event is not None]
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        try:
            await self.start()
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return asked.is_set()
        finally:
            for task in waits:
                task.cancel()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            await self.stop(grace_s)


def build_server(
    services: Sequence[Service],
    policy: Policy,
    authenticator: Authenticator,
    listeners: Sequence[Listener],
    limits: Limits | None = None,
    *,
    reflection: bool = False,
    maximum_calls: int = 20_000,
    on_refusal: OnRefusal | None = None,
    door: TokenDoor | None = None,
    closed: Callable[[], FinSecureError] | None = None,
) -> RpcServer:
    """Build a server whose every call passes the `Guard`.

    Args:
        services: what it serves.
        policy: who may call which method; what is missing is denied.
        authenticator: says who is calling.
        listeners: where it listens.
        limits: bounds on deadlines and rates.
        reflection: let members list the methods.
        on_refusal: hears of callers who are not let in; see `Guard`.
        door: where people come in who have a token and no certificate; None takes no tokens.
        closed: see `Guard`; a server that is closed says NOT_SERVING.
        maximum_calls: open calls at once, streams included; more get RESOURCE_EXHAUSTED.

    Raises:
        ConfigurationError: LISTEN_FAILED when an address cannot be listened on.
    """
    whole_policy = {**policy, **HEALTH_POLICY, **(REFLECTION_POLICY if reflection else {})}
    server = grpc.aio.server(
        interceptors=[
            Guard(
                whole_policy,
                authenticator,
                limits or Limits(),
                on_refusal,
                door=door,
                closed=closed,
            )
        ],
        options=_OPTIONS,
        maximum_concurrent_rpcs=maximum_calls,
    )
    for add, servicer in services:
        add(servicer, server)
    health_servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = sorted({method.split("/")[1] for method in policy})
    if reflection:
        reflection_service.enable_server_reflection(
            [*names, health.SERVICE_NAME, reflection_service.SERVICE_NAME], server
        )
    ports = []
    for listener in listeners:
        try:
            port = server.add_secure_port(listener.address, listener.credentials)
        except RuntimeError as error:
            port = 0
            failure: Exception | None = error
        else:
            failure = None
        if port == 0:
            raise ConfigurationError(
                "LISTEN_FAILED",
                f"{listener.address} cannot be listened on: is another server there already, or "
                "is the address not this machine's?",
            ) from failure
        ports.append(port)
    return RpcServer(server, health_servicer, names, ports, closed=closed is not None)
