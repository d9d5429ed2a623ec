"""Times and durations on the wire; here they are nanoseconds."""

from finsecure_crypto.errors import InvalidArgumentError
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def nanoseconds(duration: Duration) -> int:
    """Read a duration; InvalidArgumentError DURATION_MALFORMED."""
    if not -315_576_000_000 <= duration.seconds <= 315_576_000_000 or not (
        -999_999_999 <= duration.nanos <= 999_999_999
    ):
        raise InvalidArgumentError("DURATION_MALFORMED", "a duration is out of its type's range")
    return duration.seconds * 10**9 + duration.nanos


def timestamp(nanoseconds: int) -> Timestamp:
    """Make the wire's form of a time."""
    return Timestamp(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)
