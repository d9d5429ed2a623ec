"""What every call passes before its handler, and every error after it.

The order is: deadline → identity → rate → policy → message → handler → error. Nothing reaches a
handler that did not pass all of them; what is not declared is denied.

A call with one request is served as a stream of one, so that its deadline is checked before its
request has arrived: who opens calls and never sends anything is bounded by it.
"""

import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, NoReturn, TypeVar

import grpc
from finsecure_crypto.certificates import Certified, Role
from finsecure_crypto.errors import (
    AuthenticationError,
    ConfigurationError,
    FinSecureError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
)
from google.protobuf.message import DecodeError, Message

from finsecure_rpc.authenticator import Authenticator
from finsecure_rpc.bearer import Bearer, TokenDoor, token_of
from finsecure_rpc.logs import get_logger
from finsecure_rpc.open_streams import OpenStreams
from finsecure_rpc.peer import Peer, current_peer, set_peer
from finsecure_rpc.policy import ANYONE, Limits, Policy
from finsecure_rpc.rate import RateLimiter
from finsecure_rpc.status import RateExceededError, to_wire
from finsecure_rpc.validation import check_message

_log = get_logger(__name__)
# gRPC rounds long timeouts up on the wire, by as much as a hundredth.
_SLACK_S, _SLACK_FRACTION = 1.0, 0.02
_AWAITED_RETRY_S = 1.0

Handler = Any  # grpc.RpcMethodHandler: its stub has no attributes
Context = Any  # grpc.aio.ServicerContext, whatever its messages
Caller = TypeVar("Caller", Certified, Bearer)
Deserialize = Callable[[bytes], Message]
OnRefusal = Callable[[str, FinSecureError], None]


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """The one interceptor of a server.

    Args:
        policy: who may call which method.
        authenticator: says who is calling.
        limits: bounds on deadlines and rates.
        on_refusal: hears of callers who are not who they say or may not call a method.
        clock: monotonic seconds.
        door: where people come in who have a token and no certificate; None takes no tokens.
        closed: what methods without a policy are answered, whoever calls; None denies them.
    """

    def __init__(
        self,
        policy: Policy,
        authenticator: Authenticator,
        limits: Limits,
        on_refusal: OnRefusal | None = None,
        clock: Callable[[], float] = time.monotonic,
        door: TokenDoor | None = None,
        closed: Callable[[], FinSecureError] | None = None,
    ) -> None:
        self._closed = closed
        self._policy = policy
        self._authenticator = authenticator
        self._limits = limits
        self._on_refusal = on_refusal
        self._door = door
        self._known = RateLimiter(limits.rate, clock)
        self._anonymous = RateLimiter(limits.anonymous_rate, clock)
        self._streams = OpenStreams(self._recheck, limits.recheck_s, limits.streams)
        self._awaited: Counter[str] = Counter()
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler of a method, whichever of the four kinds it is."""
        method: str = handler_call_details.method
        if self._closed is not None and method not in self._policy:
            return _refusing(method, self._closed)
        handler = await continuation(handler_call_details)
        if handler is None:
            return None  # gRPC answers UNIMPLEMENTED
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = (handler, self._wrap(method, handler))
            self._wrapped[method] = known
        return known[1]

    def _wrap(self, method: str, handler: Handler) -> Handler:
        behaviour = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        generator = inspect.isasyncgenfunction(behaviour)
        if not (generator or inspect.iscoroutinefunction(behaviour)):
            behaviour = _unimplemented  # generated bases are not async; nothing else may be
        deserialize = handler.request_deserializer

        async def unary_unary(requests: Any, context: Context) -> Any:
            try:
                async with self._waiting(method, context):
                    request = await _only(requests)
                self._admit(method, context)
                return await behaviour(_read(deserialize, request), context)
            except Exception as error:  # whatever it is, the caller gets a status
                await _abort(method, context, error)

        async def stream_unary(requests: Any, context: Context) -> Any:
            try:
                self._check_deadline(method, context.time_remaining())
                caller = self._admit(method, context)
                async with self._streams.watched(caller):
                    return await behaviour(_read_stream(deserialize, requests), context)
            except Exception as error:
                await _abort(method, context, error)

        async def to_stream(requests: Any, context: Context) -> None:
            # Written here rather than by gRPC, so that a revoked caller who reads slowly is
            # interrupted in the middle of a write too.
            try:
                raw = None
                async with self._waiting(method, context):
                    if not handler.request_streaming:
                        raw = await _only(requests)
                caller = self._admit(method, context)
                async with self._streams.watched(caller):
                    request = (
                        _read_stream(deserialize, requests)
                        if raw is None
                        else _read(deserialize, raw)
                    )
                    if not generator:
                        await behaviour(request, context)
                        return
                    async with aclosing(behaviour(request, context)) as responses:
                        async for response in responses:
                            await context.write(response)
            except Exception as error:
                await _abort(method, context, error)

        # Requests come here as bytes: who may not call does not get them parsed, and gRPC would
        # answer those that cannot be parsed with UNKNOWN and a traceback in the log.
        codec = (None, handler.response_serializer)
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(to_stream, *codec)
        one = stream_unary if handler.request_streaming else unary_unary
        return grpc.stream_unary_rpc_method_handler(one, *codec)

    def _admit(self, method: str, context: Context) -> Certified | Bearer | None:
        """Check everything that does not need the message; set the current peer."""
        try:
            return self._let_in(method, context)
        except (AuthenticationError, PermissionDeniedError) as error:
            if self._on_refusal is not None:
                self._on_refusal(method, error)
            raise

    def _recheck(self, caller: Certified | Bearer) -> None:
        if isinstance(caller, Certified):
            self._authenticator.recheck(caller)
        elif self._door is not None:
            self._door.bearers.recheck(caller)

    def _bearer(self, method: str, context: Context) -> Bearer | None:
        """Who comes with a token, if there is one.

        Raises:
            AuthenticationError: TOKEN_*.
            PermissionDeniedError: TOKEN_NOT_ALLOWED, TOKEN_WITHOUT_ROLE.
        """
        token = None if self._door is None else token_of(context.invocation_metadata() or ())
        if self._door is None or token is None:
            return None
        if method not in self._door.methods:
            raise PermissionDeniedError(
                "TOKEN_NOT_ALLOWED", "This call takes no token: come with a certificate."
            )
        return self._door.bearers.verify(token)

    def _let_in(self, method: str, context: Context) -> Certified | Bearer | None:
        address = _address(context.peer())
        set_peer(None, address)
        try:
            caller = self._authenticator.authenticate(context.auth_context())
        except FinSecureError:
            # Who is nobody we know pays like who says nothing.
            wait_s = self._anonymous.take(address)
            if wait_s:
                raise RateExceededError(wait_s) from None
            raise
        if caller is None:
            wait_s = self._anonymous.take(address)
        else:
            set_peer(Peer(caller.spiffe_id, caller.serial, caller.not_after), address)
            wait_s = self._known.take(str(caller.spiffe_id))
        if wait_s:
            raise RateExceededError(wait_s)
        access = self._policy.get(method, frozenset())
        if access is ANYONE:
            return caller
        if caller is None and (bearer := self._bearer(method, context)) is not None:
            set_peer(Peer(bearer.spiffe_id, 0, bearer.not_after), address)
            wait_s = self._known.take(str(bearer.spiffe_id))
            if wait_s:
                raise RateExceededError(wait_s)
            return self._allowed(method, bearer, access)
        if caller is None:
            raise AuthenticationError(
                "CERTIFICATE_REQUIRED",
                "This call needs a client certificate: enrol first, and call the address for "
                "members, not the one for enrolment.",
            )
        return self._allowed(method, caller, access)

    def _allowed(self, method: str, caller: Caller, access: frozenset[Role]) -> Caller:
        if caller.spiffe_id.role not in access:
            raise PermissionDeniedError(
                "ROLE_NOT_ALLOWED",
                f"A member with the role {caller.spiffe_id.role.value} may not call {method}.",
            )
        return caller

    @asynccontextmanager
    async def _waiting(self, method: str, context: Context) -> AsyncIterator[None]:
        """Bound how long, and for how many calls of one address, a request is awaited."""
        self._check_deadline(method, context.time_remaining())
        address = _address(context.peer())
        if self._awaited[address] >= self._limits.awaited:
            raise RateExceededError(_AWAITED_RETRY_S)
        self._awaited[address] += 1
        try:
            yield
        finally:
            self._awaited[address] -= 1
            if not self._awaited[address]:
                del self._awaited[address]

    def _check_deadline(self, method: str, remaining_s: float | None) -> None:
        if remaining_s is None:
            raise InvalidArgumentError(
                "DEADLINE_REQUIRED", "Every call needs a deadline: set a timeout."
            )
        most = self._limits.deadline_of(method)
        if remaining_s > most * (1.0 + _SLACK_FRACTION) + _SLACK_S:
            raise InvalidArgumentError(
                "DEADLINE_TOO_LONG", f"The deadline of {method} is at most {most:g} seconds away."
            )


def _refusing(method: str, closed: Callable[[], FinSecureError]) -> Handler:
    """A handler that reads nothing and refuses; callers of all four kinds of method take that."""

    async def refuse(_: Any, context: Context) -> None:
        await _abort(method, context, closed())

    return grpc.stream_stream_rpc_method_handler(refuse)


async def _only(requests: AsyncIterator[bytes]) -> bytes:
    """The request of a call that has one."""
    async for request in requests:
        return request
    raise InvalidArgumentError(
        "MESSAGE_MISSING", "The call ended without its request: send one message."
    )


async def _unimplemented(_: Any, context: Context) -> NoReturn:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "This server does not have the method.")
    raise AssertionError("unreachable: abort raises")


def _read(deserialize: Deserialize, request: bytes) -> Message:
    try:
        message = deserialize(request)
    except DecodeError as error:
        raise InvalidArgumentError(
            "MESSAGE_UNREADABLE",
            "The bytes are no message of the contract: is the caller of another version?",
        ) from error
    check_message(message)
    return message


async def _read_stream(
    deserialize: Deserialize, requests: AsyncIterator[bytes]
) -> AsyncIterator[Message]:
    async for request in requests:
        yield _read(deserialize, request)


def _address(peer: str) -> str:
    """Host of a gRPC peer name such as `ipv4:192.0.2.1:50051`."""
    return peer.rpartition(":")[0] or peer


async def _abort(method: str, context: Context, error: Exception) -> NoReturn:
    """End the call with the status of an error."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    known = current_peer()
    who = {"peer": context.peer(), "caller": None if known is None else str(known.spiffe_id)}
    ours = isinstance(error, (InternalError, ConfigurationError))  # nothing a caller can act on
    if isinstance(error, FinSecureError) and not ours:
        _log.info("call refused", method=method, code=error.code, **who)
        wire = to_wire(error)
    else:
        _log.error("call failed", method=method, **who, exc_info=error)
        code = error.code if isinstance(error, InternalError) else "INTERNAL"
        wire = to_wire(
            InternalError(code, "The service failed; its log says why. Try again later.")
        )
    await context.abort(wire.status, wire.details, wire.trailing_metadata)
    raise AssertionError("unreachable: abort raises")
