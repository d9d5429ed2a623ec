"""Channels to services: mutual TLS, identity over location, bounded messages, careful retries."""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure.aggregation.v1 import models_pb2, participation_pb2, tasks_pb2
from finsecure.keyservice.v1 import (
    approvals_pb2,
    authorities_pb2,
    certificates_pb2,
    encryption_keys_pb2,
    members_pb2,
    seal_pb2,
    trustee_pb2,
)
from finsecure_crypto.certificates import Role, TrustAnchors
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.secret import SecretBytes
from google.protobuf.message import Message

from finsecure_rpc.credentials import channel_credentials
from finsecure_rpc.identity_store import Identity

MESSAGE_LIMIT = 4 << 20
"""Most bytes of one message; larger things travel in chunks."""

OnSend = Callable[[str, Message], None]
"""Called with the full method name and each outgoing message, before it is sent."""

_CONTRACT = (
    models_pb2,
    participation_pb2,
    tasks_pb2,
    certificates_pb2,
    members_pb2,
    encryption_keys_pb2,
    trustee_pb2,
    approvals_pb2,
    authorities_pb2,
    seal_pb2,
)


def _service_config() -> str:
    """Repeat a call after UNAVAILABLE, unless it uploads a stream.

    Messages are idempotent and mutations carry a request id, so a repetition is harmless. An
    upload has to ask first how much has arrived, so it is not gRPC's to repeat.
    """
    uploads = [
        {"service": service.full_name, "method": method.name}
        for module in _CONTRACT
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if method.client_streaming
    ]
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.2s",
        "maxBackoff": "3s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": uploads}, {"name": [{}], "retryPolicy": retry}]})


_SERVICE_CONFIG = _service_config()


def _options(target_name: str) -> list[tuple[str, Any]]:
    return [
        ("grpc.ssl_target_name_override", target_name),
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        # A small compressed message may unpack to a huge one, so only plain ones are taken.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 10_000),
        ("grpc.service_config", _SERVICE_CONFIG),
        # A renewed identity must not share a connection that was opened with the old one.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def server_name(identity: Identity, role: Role, federation: str | None = None) -> str:
    """DNS name in the certificate of the server with a role, seen from a member.

    Args:
        identity: the caller's.
        role: role of the server.
        federation: of the server; by default the caller's own. Operators have none and must say.

    Raises:
        ConfigurationError: FEDERATION_MISSING; the caller's.
    """
    domain = identity.anchors.domain
    if role.federated:
        if federation is not None:
            domain = f"{federation}.{domain}"
        elif identity.spiffe_id.role.federated:
            domain = identity.spiffe_id.trust_domain
        else:
            raise ConfigurationError(
                "FEDERATION_MISSING",
                f"{identity.spiffe_id} belongs to no federation: say whose {role.value} to call.",
            )
    return f"{role.value}.{domain}"


def open_channel(
    address: str,
    identity: Identity,
    target_name: str,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    *,
    on_send: OnSend | None = None,
) -> grpc.aio.Channel:
    """Open a channel with mutual TLS.

    Args:
        address: `host:port`; where, not who.
        identity: the caller's.
        target_name: DNS name that the server's certificate must have; see `server_name`.
        interceptors: gRPC client interceptors.
        on_send: sees each outgoing message; when it raises, the message is not sent.
    """
    channel = grpc.aio.secure_channel(
        address,
        channel_credentials(identity),
        options=_options(target_name),
        interceptors=list(interceptors),
    )
    return channel if on_send is None else _ObservedChannel(channel, on_send)


def open_anonymous_channel(
    address: str,
    root_pem: bytes,
    target_name: str | None = None,
    *,
    on_send: OnSend | None = None,
) -> grpc.aio.Channel:
    """Open a channel without a client certificate, to the listener for enrolment.

    The name that the server must prove follows from the domain in the pinned root.
    """
    if target_name is None:
        roots = x509.load_pem_x509_certificates(root_pem)
        anchors = TrustAnchors(tuple(root.public_bytes(Encoding.DER) for root in roots), ())
        target_name = f"{Role.KEYSERVICE.value}.{anchors.domain}"
    channel = grpc.aio.secure_channel(
        address,
        grpc.ssl_channel_credentials(root_certificates=root_pem),
        options=_options(target_name),
    )
    return channel if on_send is None else _ObservedChannel(channel, on_send)


def open_token_channel(
    address: str, root_pem: bytes, target_name: str, token: SecretBytes
) -> grpc.aio.Channel:
    """Open a channel of a person with a bearer token (RFC 6750), to a listener that takes tokens.

    Args:
        address: `host:port`; where, not who.
        root_pem: root certificate as given out of band; the token leaves for nobody else.
        target_name: DNS name that the server's certificate must have.
        token: it goes with each call.
    """
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(root_certificates=root_pem),
        grpc.access_token_call_credentials(token.expose().decode("ascii")),
    )
    return grpc.aio.secure_channel(address, credentials, options=_options(target_name))


class _ObservedChannel(grpc.aio.Channel):
    """A channel that shows each outgoing message to a callable first.

    It stands before the channel rather than in an interceptor, so that what the callable raises
    reaches whoever sends.
    """

    def __init__(self, channel: grpc.aio.Channel, on_send: OnSend) -> None:
        self._inner = channel
        self._on_send = on_send

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._unary(method, self._inner.unary_unary(method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._unary(method, self._inner.unary_stream(method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._streamed(method, self._inner.stream_unary(method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._streamed(method, self._inner.stream_stream(method, *args, **kwargs))

    def _unary(self, method: str, inner: Any) -> Any:
        def invoke(request: Message, **options: Any) -> Any:
            self._on_send(method, request)
            return inner(request, **options)

        return invoke

    def _streamed(self, method: str, inner: Any) -> Any:
        async def observed(
            requests: AsyncGenerator[Message, None],
        ) -> AsyncGenerator[Message, None]:
            async for request in requests:
                try:
                    self._on_send(method, request)
                except Exception as error:
                    # gRPC would only log it; thrown to where the message came from, it reaches
                    # whoever makes the call.
                    await requests.athrow(error)
                    raise
                yield request

        def invoke(request_iterator: AsyncGenerator[Message, None], **options: Any) -> Any:
            return inner(observed(request_iterator), **options)

        return invoke

    async def close(self, grace: float | None = None) -> None:
        """See grpc.aio.Channel."""
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See grpc.aio.Channel."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See grpc.aio.Channel."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See grpc.aio.Channel."""
        await self._inner.channel_ready()

    async def __aenter__(self) -> "_ObservedChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
