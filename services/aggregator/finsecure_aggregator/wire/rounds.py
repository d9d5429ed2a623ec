"""Rounds on the wire."""

from finsecure.aggregation.v1 import tasks_pb2
from finsecure_crypto.federation import RoundKind

from finsecure_aggregator.records import RoundRecord, RoundState
from finsecure_aggregator.wire.models import version_name
from finsecure_aggregator.wire.times import timestamp

KINDS = {
    RoundKind.STATISTICS: tasks_pb2.ROUND_KIND_STATISTICS,
    RoundKind.TRAINING: tasks_pb2.ROUND_KIND_TRAINING,
}


def state_to_wire(state: RoundState) -> tasks_pb2.RoundState.ValueType:
    """Make the wire's form of a round's state."""
    return tasks_pb2.RoundState.Value(f"ROUND_STATE_{state.name}")


def round_to_wire(record: RoundRecord) -> tasks_pb2.Round:
    """Make the wire's form of a round."""
    proto = tasks_pb2.Round(
        name=record.key.name,
        number=record.key.number,
        attempt=record.key.attempt,
        kind=KINDS[record.kind],
        state=state_to_wire(record.state),
        abort_reason=record.abort_reason,
        abort_detail=record.abort_detail,
        base_model=version_name(record.key.task, record.base_version),
        result_model=version_name(record.key.task, record.result_version),
        invited=record.invited,
        blamed=[tasks_pb2.Blame(client=client, reason=why) for client, why in record.blamed],
        start_time=timestamp(record.start_ns),
        received_bytes=record.received_bytes,
        trustees=[
            tasks_pb2.TrusteeAnswer(holder=each.holder, trustee=each.trustee, reason=each.reason)
            for each in record.trustees
        ],
    )
    for phase in record.phases:
        entry = proto.phases.add(
            phase=state_to_wire(phase.phase),
            open_time=timestamp(phase.open_ns),
            clients=record.clients.get(phase.phase, ()),
        )
        if phase.close_ns is not None:
            entry.close_time.CopyFrom(timestamp(phase.close_ns))
    if record.end_ns is not None:
        proto.end_time.CopyFrom(timestamp(record.end_ns))
    if record.metrics is not None:
        metrics = record.metrics
        proto.metrics.loss = metrics.loss
        proto.metrics.accuracy = metrics.accuracy
        if metrics.auc is not None:
            proto.metrics.auc = metrics.auc
        proto.metrics.training_examples = metrics.training_examples
        proto.metrics.validation_examples = metrics.validation_examples
        proto.metrics.total_weight = metrics.total_weight
    return proto
