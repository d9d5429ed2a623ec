import grpc
import pytest
from finsecure_crypto import errors
from finsecure_crypto.errors import FinSecureError, InternalError
from finsecure_rpc.status import (
    STATUS_OF,
    FieldViolation,
    InvalidMessageError,
    RateExceededError,
    from_wire,
    to_wire,
)
from google.rpc import error_details_pb2, status_pb2


def received(wire) -> grpc.aio.AioRpcError:
    return answer(wire.status, wire.details, wire.trailing_metadata)


def answer(status, details="", metadata=()):
    return grpc.aio.AioRpcError(
        status, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details, ""
    )


def leaves(kind):
    return [kind] + [leaf for child in kind.__subclasses__() for leaf in leaves(child)]


def test_every_error_class_has_a_status():
    defined = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, FinSecureError)
    }
    assert defined - {FinSecureError} == set(STATUS_OF)


@pytest.mark.parametrize("kind", list(STATUS_OF), ids=lambda kind: kind.__name__)
def test_every_error_crosses_whole(kind):
    back = from_wire(received(to_wire(kind("SOME_CODE", "What to do.", culprit="bank-z"))))
    assert type(back) is kind
    assert (back.code, back.message, back.culprit) == ("SOME_CODE", "What to do.", "bank-z")


def test_violations_and_delays_cross():
    violations = [FieldViolation("a.b[1]", "must be set"), FieldViolation("c", "too long")]
    back = from_wire(received(to_wire(InvalidMessageError(violations))))
    assert isinstance(back, InvalidMessageError)
    assert list(back.violations) == violations
    late = from_wire(received(to_wire(RateExceededError(1.5))))
    assert isinstance(late, RateExceededError)
    assert late.retry_after_s == 1.5


@pytest.mark.parametrize("status", [s for s in grpc.StatusCode if s is not grpc.StatusCode.OK])
def test_a_plain_status_becomes_an_error(status):
    back = from_wire(answer(status, "words"))
    assert back.code == f"RPC_{status.name}"


def test_a_peer_cannot_send_control_characters_or_novels():
    back = from_wire(received(to_wire(InternalError("X\x1b[2J", "a\x1b[31m\nb" + "c" * 9999))))
    assert "\x1b" not in str(back)
    assert "\n" not in str(back)
    assert len(str(back)) < 1200


@pytest.mark.parametrize("garbage", [b"", b"\xff\xff\xff", b"\x0a\xff", bytes(100)])
def test_garbage_in_the_details_is_ignored(garbage):
    back = from_wire(
        answer(grpc.StatusCode.NOT_FOUND, "gone", (("grpc-status-details-bin", garbage),))
    )
    assert isinstance(back, errors.NotFoundError)
    assert back.code == "RPC_NOT_FOUND"


def test_garbage_inside_a_detail_and_unknown_kinds_are_ignored():
    rich = status_pb2.Status()
    rich.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    back = from_wire(
        answer(
            grpc.StatusCode.NOT_FOUND,
            "gone",
            (("grpc-status-details-bin", rich.SerializeToString()),),
        )
    )
    assert back.code == "RPC_NOT_FOUND"
    rich = status_pb2.Status()
    rich.details.add().Pack(
        error_details_pb2.ErrorInfo(reason="R", domain="finsecure", metadata={"kind": "SystemExit"})
    )
    back = from_wire(
        answer(
            grpc.StatusCode.NOT_FOUND,
            "gone",
            (("grpc-status-details-bin", rich.SerializeToString()),),
        )
    )
    assert type(back) is errors.NotFoundError


def test_hostile_delays_are_bounded():
    assert from_wire(received(to_wire(RateExceededError(1e9)))).retry_after_s == 3600.0


def test_subclasses_travel_as_their_parent():
    class Special(errors.StateError):
        pass

    assert type(from_wire(received(to_wire(Special("S", "m"))))) is errors.StateError
    assert leaves(FinSecureError)  # the tree is not empty
