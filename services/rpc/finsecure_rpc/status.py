"""The error vocabulary on the wire: `google.rpc.Status` with ErrorInfo, both ways.

Source: the google.rpc error model (google/rpc/status.proto, error_details.proto).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import grpc
from finsecure_crypto import errors
from finsecure_crypto.errors import FinSecureError
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

_Detail = TypeVar("_Detail", bound=Message)

DOMAIN = "finsecure"
_DETAILS_KEY = "grpc-status-details-bin"
_MOST_TEXT = 1000

STATUS_OF: dict[type[FinSecureError], grpc.StatusCode] = {
    errors.InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ConfigurationError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PolicyError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.AuthenticationError: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.ConflictError: grpc.StatusCode.ALREADY_EXISTS,
    errors.StateError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ProtocolViolationError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.IntegrityError: grpc.StatusCode.DATA_LOSS,
    errors.ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.InternalError: grpc.StatusCode.INTERNAL,
}
_CLASS_OF_KIND = {kind.__name__: kind for kind in STATUS_OF}
_CLASS_OF_STATUS: dict[grpc.StatusCode, type[FinSecureError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgumentError,
    grpc.StatusCode.UNAUTHENTICATED: errors.AuthenticationError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.ConflictError,
    grpc.StatusCode.ABORTED: errors.ConflictError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.StateError,
    grpc.StatusCode.DATA_LOSS: errors.IntegrityError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhaustedError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.UnavailableError,
    grpc.StatusCode.CANCELLED: errors.UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: errors.StateError,
    grpc.StatusCode.INTERNAL: errors.InternalError,
    grpc.StatusCode.UNKNOWN: errors.InternalError,
}


class FieldViolation(NamedTuple):
    """A field of a request that breaks its constraint."""

    field: str
    description: str


class InvalidMessageError(errors.InvalidArgumentError):
    """A request breaks the constraints that stand in the proto.

    Attributes:
        violations: what is wrong, field by field.
    """

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        listed = "; ".join(f"{item.field}: {item.description}" for item in violations[:8])
        super().__init__("INVALID_MESSAGE", f"The request is invalid: {listed}.")
        self.violations = tuple(violations)


class RateExceededError(errors.ResourceExhaustedError):
    """The caller makes too many calls.

    Attributes:
        retry_after_s: when the next call will be answered.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            "RATE_EXCEEDED", f"Too many calls: try again in {retry_after_s:.2f} seconds."
        )
        self.retry_after_s = retry_after_s


class WireError(NamedTuple):
    """What `context.abort` takes."""

    status: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


def to_wire(error: FinSecureError) -> WireError:
    """Translate an error for a caller."""
    kind = next(kind for kind in type(error).__mro__ if kind in STATUS_OF)
    status = STATUS_OF[kind]
    info = error_details_pb2.ErrorInfo(
        reason=error.code, domain=DOMAIN, metadata={"kind": kind.__name__}
    )
    if error.culprit is not None:
        info.metadata["culprit"] = error.culprit
    rich = status_pb2.Status(code=status.value[0], message=error.message)
    rich.details.append(_packed(info))
    if isinstance(error, InvalidMessageError):
        bad = error_details_pb2.BadRequest()
        for item in error.violations[:64]:
            bad.field_violations.add(field=item.field, description=item.description)
        rich.details.append(_packed(bad))
    if isinstance(error, RateExceededError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        rich.details.append(_packed(retry))
    return WireError(status, error.message, ((_DETAILS_KEY, rich.SerializeToString()),))


def from_wire(error: grpc.aio.AioRpcError) -> FinSecureError:
    """Translate what a peer answered; its words are cut and stripped of control characters."""
    status = error.code()
    details = _rich_status(error)
    info = _find(details, error_details_pb2.ErrorInfo)
    message = printable(error.details() or status.name)
    if info is None or info.domain != DOMAIN:
        kind = _CLASS_OF_STATUS.get(status, errors.InternalError)
        return kind(f"RPC_{status.name}", f"The service answered {status.name}: {message}")
    code = printable(info.reason)[:64]
    kind = _CLASS_OF_KIND.get(
        info.metadata.get("kind", ""), _CLASS_OF_STATUS.get(status, errors.InternalError)
    )
    if code == "INVALID_MESSAGE":
        bad = _find(details, error_details_pb2.BadRequest) or error_details_pb2.BadRequest()
        return InvalidMessageError(
            [
                FieldViolation(printable(item.field), printable(item.description))
                for item in bad.field_violations
            ]
        )
    if code == "RATE_EXCEEDED":
        retry = _find(details, error_details_pb2.RetryInfo) or error_details_pb2.RetryInfo()
        return RateExceededError(min(max(retry.retry_delay.ToNanoseconds() / 1e9, 0.0), 3600.0))
    culprit = printable(info.metadata["culprit"])[:64] if "culprit" in info.metadata else None
    return kind(code, message, culprit=culprit)


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _rich_status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    metadata: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()  # type: ignore[assignment]
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:  # hostile bytes: the plain status is left
                break
    return status_pb2.Status()


def _find(status: status_pb2.Status, kind: type[_Detail]) -> _Detail | None:
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            try:
                packed.Unpack(found)
            except DecodeError:
                return None
            return found
    return None


def printable(text: str) -> str:
    """Cut a peer's words and strip control characters, which a terminal might obey."""
    return "".join(c if c.isprintable() else " " for c in text[:_MOST_TEXT])
