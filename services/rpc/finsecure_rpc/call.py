"""Calls with a deadline, and errors in the project's own vocabulary."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, TypeVar, overload

import grpc
from finsecure_crypto.errors import AuthenticationError, FinSecureError, UnavailableError

from finsecure_rpc.status import from_wire, printable

Request = TypeVar("Request")
Response = TypeVar("Response")

# What grpc.aio says, on the caller's side, when a service answers before a stream of requests has
# ended: the message that could not be sent hides the answer.
_SEND_FAILED = "Internal error from Core"


@overload
async def call(
    method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
    request: Request,
    *,
    deadline_s: float,
    address: str = "",
    wait_for_ready: bool = False,
) -> Response: ...
@overload
async def call(
    method: "grpc.aio.StreamUnaryMultiCallable[Request, Response]",
    request: AsyncIterator[Request],
    *,
    deadline_s: float,
    address: str = "",
    wait_for_ready: bool = False,
) -> Response: ...
async def call(
    method: Any,
    request: Any,
    *,
    deadline_s: float,
    address: str = "",
    wait_for_ready: bool = False,
) -> Any:
    """Make a call with one response.

    Args:
        method: of a stub; its request is one message, or a stream of messages.
        request: the message, or an asynchronous iterator of messages.
        deadline_s: seconds until the answer is worthless.
        address: of the service, for error messages.
        wait_for_ready: wait for the service within the deadline instead of failing at once.

    Raises:
        FinSecureError: what the service answered, in its own class and code; UnavailableError
            SERVICE_UNREACHABLE, DEADLINE_EXCEEDED, UPLOAD_INTERRUPTED or CONNECTION_CLOSED;
            AuthenticationError SERVER_UNTRUSTED. What the iterator raises is raised unchanged.
    """
    failures: list[Exception] = []
    if hasattr(request, "__aiter__"):
        request = _remember_failure(request, failures)
    try:
        return await method(request, timeout=deadline_s, wait_for_ready=wait_for_ready)
    except grpc.aio.AioRpcError as error:
        raise (failures or [_translated(error, address, deadline_s)])[0] from error
    except (asyncio.CancelledError, grpc.aio.UsageError) as error:
        raise _closed(error, failures, address) from error


async def stream(
    method: "grpc.aio.UnaryStreamMultiCallable[Any, Response]"
    "| grpc.aio.StreamStreamMultiCallable[Any, Response]",
    request: Any,
    *,
    deadline_s: float,
    address: str = "",
    wait_for_ready: bool = False,
) -> AsyncGenerator[Response, None]:
    """Make a call with a stream of responses; the arguments and errors are those of `call`."""
    failures: list[Exception] = []
    if hasattr(request, "__aiter__"):
        request = _remember_failure(request, failures)
    responses: Any = None
    try:
        responses = method(request, timeout=deadline_s, wait_for_ready=wait_for_ready)
        async for response in responses:
            yield response
    except grpc.aio.AioRpcError as error:
        raise (failures or [_translated(error, address, deadline_s)])[0] from error
    except (asyncio.CancelledError, grpc.aio.UsageError) as error:
        raise _closed(error, failures, address) from error
    finally:
        if responses is not None:
            responses.cancel()  # when the reader leaves early; otherwise nothing happens


async def _remember_failure(
    requests: AsyncIterator[Request], failures: list[Exception]
) -> AsyncGenerator[Request, None]:
    """Keep what the iterator raises: gRPC only logs it and cancels the call."""
    try:
        async for request in requests:
            yield request
    except Exception as error:
        failures.append(error)
        raise


def _closed(error: BaseException, failures: list[Exception], address: str) -> BaseException:
    """Tell the cancellation of a call (its channel was closed) from that of the caller's task."""
    if failures:
        return failures[0]
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        return error
    return UnavailableError(
        "CONNECTION_CLOSED", f"The connection to {address or 'the service'} was closed: try again."
    )


def _translated(error: grpc.aio.AioRpcError, address: str, deadline_s: float) -> FinSecureError:
    where = address or "the service"
    details = error.details() or ""
    answered = from_wire(error)
    if not answered.code.startswith("RPC_"):
        return answered
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return UnavailableError(
            "DEADLINE_EXCEEDED",
            f"{where} did not answer within {deadline_s:g} seconds: see that it runs and that "
            "the network lets you through, then try again.",
        )
    if error.code() is grpc.StatusCode.INTERNAL and details == _SEND_FAILED:
        return UnavailableError(
            "UPLOAD_INTERRUPTED",
            f"{where} ended the call while it was still being sent to, and its answer was lost: "
            "try again; an upload goes on where it was.",
        )
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        lower = details.lower()
        if "hostname verification" in lower or (
            "handshake failed" in lower and "certificate" in lower
        ):
            return AuthenticationError(
                "SERVER_UNTRUSTED",
                f"The certificate of {where} is not that of the expected service below root.pem: "
                "compare the address and the root certificate with what the operator gave you.",
            )
        return UnavailableError(
            "SERVICE_UNREACHABLE",
            f"{where} cannot be reached ({printable(details)[:300]}): see that the service "
            "runs, that address and network are right, and that it accepts the certificate of "
            "this side; then try again.",
        )
    return answered
