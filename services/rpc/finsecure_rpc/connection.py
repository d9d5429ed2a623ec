"""A connection that follows its owner's identity: a renewal opens a new channel."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import datetime
from typing import Any, TypeVar, overload

import grpc
from finsecure_crypto.certificates import Role

from finsecure_rpc import call as calls
from finsecure_rpc.authenticator import utc_now
from finsecure_rpc.channel import OnSend, open_channel, server_name
from finsecure_rpc.identity_store import IdentityProvider

Stub = TypeVar("Stub")
Request = TypeVar("Request")
Response = TypeVar("Response")

_RETIREMENT_S = 3600.0
"""How long calls that began on a channel of an older identity may go on."""


class Connection:
    """Calls one service with the newest identity.

    Args:
        address: `host:port`.
        identities: gives the newest identity, such as an `IdentityStore`.
        role: role of the server: AGGREGATOR, TRUSTEE or KEYSERVICE.
        federation: of the server, unless it is the key service; by default the caller's own.
            Operators have to say.
        on_send: sees each outgoing message first.
        clock: aware UTC time.
    """

    def __init__(
        self,
        address: str,
        identities: IdentityProvider,
        role: Role,
        *,
        federation: str | None = None,
        on_send: OnSend | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.address = address
        self._identities = identities
        self._role = role
        self._federation = federation
        self._on_send = on_send
        self._clock = clock
        self._channel: tuple[int, grpc.aio.Channel] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    def channel(self) -> grpc.aio.Channel:
        """Return the channel of the newest identity; do not keep it.

        Raises:
            AuthenticationError: CERTIFICATE_EXPIRED when the own certificate has ended: a server
                would only close the connection, without a reason.
        """
        identity = self._identities.current()
        identity.certified.check(None, self._clock())
        if self._channel is not None:
            generation, channel = self._channel
            if generation == identity.generation:
                return channel
            task = asyncio.create_task(channel.close(_RETIREMENT_S))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        channel = open_channel(
            self.address,
            identity,
            server_name(identity, self._role, self._federation),
            on_send=self._on_send,
        )
        self._channel = (identity.generation, channel)
        return channel

    def stub(self, factory: Callable[[grpc.aio.Channel], Stub]) -> Stub:
        """Make a stub of a service; cheap, so make one for each use rather than keep it."""
        return factory(self.channel())

    @overload
    async def call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        *,
        deadline_s: float = 10.0,
        wait_for_ready: bool = False,
    ) -> Response: ...
    @overload
    async def call(
        self,
        method: "grpc.aio.StreamUnaryMultiCallable[Request, Response]",
        request: AsyncIterator[Request],
        *,
        deadline_s: float = 10.0,
        wait_for_ready: bool = False,
    ) -> Response: ...
    async def call(
        self,
        method: Any,
        request: Any,
        *,
        deadline_s: float = 10.0,
        wait_for_ready: bool = False,
    ) -> Any:
        """Make a call with one response; see `finsecure_rpc.call.call`."""
        return await calls.call(
            method,
            request,
            deadline_s=deadline_s,
            address=self.address,
            wait_for_ready=wait_for_ready,
        )

    def stream(
        self,
        method: "grpc.aio.UnaryStreamMultiCallable[Request, Response]"
        "| grpc.aio.StreamStreamMultiCallable[Request, Response]",
        request: Request | AsyncIterator[Request],
        *,
        deadline_s: float,
        wait_for_ready: bool = False,
    ) -> AsyncGenerator[Response, None]:
        """Make a call with a stream of responses; see `finsecure_rpc.call.stream`."""
        return calls.stream(
            method,
            request,
            deadline_s=deadline_s,
            address=self.address,
            wait_for_ready=wait_for_ready,
        )

    async def close(self) -> None:
        """Close all channels; open calls end with CONNECTION_CLOSED."""
        for task in tuple(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._channel is not None:
            await self._channel[1].close(None)
            self._channel = None

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
