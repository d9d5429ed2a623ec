from datetime import UTC, datetime

import pytest
from finsecure.aggregation.v1 import models_pb2, participation_pb2, tasks_pb2
from finsecure_client import convert
from finsecure_client.instructions import Outcome, Survivors
from finsecure_client.terms import CategoricalFeature, NumericFeature
from finsecure_crypto.errors import ProtocolViolationError
from finsecure_crypto.federation import Masking
from finsecure_crypto.secagg.parameters import Profile, SparseGraph
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.client import TASK, make_task, task_message


def test_task_is_read_whole() -> None:
    message = task_message(features__standardise=True)
    message.spec.security.sparse_graph.corrupt_fraction = 0.05
    message.spec.security.sparse_graph.dropout_fraction = 0.33
    task = convert.task(message)
    assert task.name == TASK
    assert task.spec == message.spec.SerializeToString(deterministic=True)
    assert task.schema.features == (
        NumericFeature("amount", 0, 100),
        CategoricalFeature("grade", ("A", "B")),
        NumericFeature("income", 0, 1e6, logarithmic=True),
    )
    assert task.schema.standardise
    assert (task.schema.width, task.schema.numeric_inputs) == (4, (0, 3))
    assert task.terms.coordinates == 5
    assert task.terms.protection == Masking(Profile.ACTIVE, SparseGraph(0.05, 0.33))
    assert make_task().terms.protection == Masking(Profile.ACTIVE, None)


def _twice(message: tasks_pb2.Task) -> None:
    message.spec.features.features.append(message.spec.features.features[0])


def _label(message: tasks_pb2.Task) -> None:
    message.spec.features.label = "amount"


def _bounds(message: tasks_pb2.Task) -> None:
    message.spec.features.features[0].numeric.maximum = 0


def _span(message: tasks_pb2.Task) -> None:
    message.spec.features.features[0].numeric.minimum = -1.7e308
    message.spec.features.features[0].numeric.maximum = 1.7e308


def _tensors(message: tasks_pb2.Task) -> None:
    message.spec.model.tensors.append(message.spec.model.tensors[0])


def _graph(message: tasks_pb2.Task) -> None:
    message.spec.security.sparse_graph.corrupt_fraction = 0.9
    message.spec.security.sparse_graph.dropout_fraction = 0.9


def _profile(message: tasks_pb2.Task) -> None:
    message.spec.security.profile = tasks_pb2.SECURITY_PROFILE_UNSPECIFIED


def _name(message: tasks_pb2.Task) -> None:
    message.name = "federations/../tasks/x"


def _nan(message: tasks_pb2.Task) -> None:
    message.spec.features.features[0].numeric.maximum = float("nan")


def _rate(message: tasks_pb2.Task) -> None:
    message.spec.training.learning_rate = float("nan")


def _factory(message: tasks_pb2.Task) -> None:
    message.spec.model.factory = "os:system('x')"


@pytest.mark.parametrize(
    "bend",
    [_twice, _label, _bounds, _span, _tensors, _graph, _profile, _name, _nan, _rate, _factory],
)
def test_impossible_tasks(bend: object) -> None:
    message = task_message()
    bend(message)  # type: ignore[operator]
    with pytest.raises(ProtocolViolationError) as caught:
        convert.task(message)
    assert caught.value.code == "MESSAGE_INVALID"


def response(**body: object) -> participation_pb2.WatchResponse:
    message = participation_pb2.WatchResponse(round="r", **body)  # type: ignore[arg-type]
    message.deadline.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    return message


def test_instructions_are_read() -> None:
    survivors = participation_pb2.Survivors(survivors=b"\x07")
    found = convert.instruction(response(confirm_survivors=survivors))
    assert (found.round, found.body) == ("r", Survivors(b"\x07"))
    assert found.deadline == datetime(2026, 1, 1, tzinfo=UTC)
    ended = participation_pb2.RoundOutcome(state=tasks_pb2.ROUND_STATE_ABORTED, reason="X")
    without = participation_pb2.WatchResponse(round="r", outcome=ended)
    assert convert.instruction(without).body == Outcome(False, "X", "")


@pytest.mark.parametrize(
    "message",
    [
        participation_pb2.WatchResponse(round="r"),
        participation_pb2.WatchResponse(round="r", confirm_survivors=participation_pb2.Survivors()),
        response(advertise_keys=participation_pb2.RoundInvitation(task=task_message())),
        response(submit_input=participation_pb2.ShareDelivery(sharers=bytes(12_501))),
        response(submit_input=participation_pb2.ShareDelivery(ciphertexts=bytes(10_800_001))),
        response(confirm_survivors=participation_pb2.Survivors(survivors=bytes(12_501))),
        response(reveal_shares=participation_pb2.Confirmations(signers=bytes(12_501))),
        response(reveal_shares=participation_pb2.Confirmations(signatures=bytes(6_400_001))),
        response(
            share_keys=participation_pb2.Roster(
                entries=[
                    participation_pb2.RosterEntry(
                        advertisement=participation_pb2.KeyAdvertisement(client="a b")
                    )
                ]
            )
        ),
    ],
)
def test_malformed_instructions(message: participation_pb2.WatchResponse) -> None:
    with pytest.raises(ProtocolViolationError) as caught:
        convert.instruction(message)
    assert caught.value.code == "MESSAGE_INVALID"


@pytest.mark.parametrize(
    "stamp",
    [
        Timestamp(seconds=2**62),
        Timestamp(seconds=-(2**62)),
        Timestamp(seconds=253402300800),
        Timestamp(nanos=-1),
        Timestamp(nanos=10**9),
    ],
)
def test_times_that_are_none(stamp: Timestamp) -> None:
    survivors = participation_pb2.Survivors(survivors=b"\x07")
    late = participation_pb2.WatchResponse(round="r", deadline=stamp, confirm_survivors=survivors)
    with pytest.raises(ProtocolViolationError):
        convert.instruction(late)
    with pytest.raises(ProtocolViolationError):
        convert.signed_model(models_pb2.Model(create_time=stamp))


def test_name_without_end() -> None:
    message = response(confirm_survivors=participation_pb2.Survivors(survivors=b"\x07"))
    message.round = "r" * 201
    with pytest.raises(ProtocolViolationError):
        convert.instruction(message)


def test_model_from_before_1970() -> None:
    with pytest.raises(ProtocolViolationError):
        convert.signed_model(models_pb2.Model(create_time=Timestamp(seconds=-1)))
