"""Tasks on the wire."""

from finsecure.aggregation.v1 import tasks_pb2
from finsecure_rpc.task_terms import terms_of

from finsecure_aggregator.optimizer import Optimizer, OptimizerKind
from finsecure_aggregator.plan import Column, Convergence, Plan
from finsecure_aggregator.records import RoundState, TaskRecord, TaskState
from finsecure_aggregator.wire.models import version_name
from finsecure_aggregator.wire.times import nanoseconds, timestamp

_OPTIMIZERS = {
    tasks_pb2.SERVER_OPTIMIZER_AVERAGE: OptimizerKind.AVERAGE,
    tasks_pb2.SERVER_OPTIMIZER_MOMENTUM: OptimizerKind.MOMENTUM,
    tasks_pb2.SERVER_OPTIMIZER_ADAM: OptimizerKind.ADAM,
}


def spec_bytes(spec: tasks_pb2.TaskSpec) -> bytes:
    """Serialise a spec the way that its digest is taken over."""
    return spec.SerializeToString(deterministic=True)


def plan_of(name: str, spec: bytes) -> Plan:
    """Read a serialised TaskSpec; the rules between its fields are `Plan.check`'s.

    Raises:
        InvalidArgumentError: PROTECTION_MIXED or what a field's type refuses; the owner's fault.
    """
    proto = tasks_pb2.TaskSpec.FromString(spec)
    server = proto.server_optimizer
    return Plan(
        name=name,
        spec=spec,
        terms=terms_of(proto),
        columns=tuple(
            Column(
                f.column,
                (f.numeric.minimum, f.numeric.maximum) if f.HasField("numeric") else None,
            )
            for f in proto.features.features
        ),
        label=proto.features.label,
        standardise=proto.features.standardise,
        rounds=proto.rounds,
        interval_ns=nanoseconds(proto.interval),
        maximum_cohort=proto.cohort.maximum,
        optimizer=Optimizer(
            _OPTIMIZERS[server.kind], server.learning_rate, server.beta1, server.beta2, server.tau
        ),
        convergence=(
            Convergence(proto.convergence.patience, proto.convergence.minimum_decrease)
            if proto.HasField("convergence")
            else None
        ),
        deadlines_ns={
            RoundState.ADVERTISE_KEYS: nanoseconds(proto.deadlines.advertise_keys),
            RoundState.SHARE_KEYS: nanoseconds(proto.deadlines.share_keys),
            RoundState.SUBMIT_INPUT: nanoseconds(proto.deadlines.submit_input),
            RoundState.CONFIRM_SURVIVORS: nanoseconds(proto.deadlines.confirm_survivors),
            RoundState.REVEAL_SHARES: nanoseconds(proto.deadlines.reveal_shares),
            RoundState.OPENING: nanoseconds(proto.deadlines.opening),
        },
    )


def task_to_wire(record: TaskRecord, available: int) -> tasks_pb2.Task:
    """Make the wire's form of a task."""
    proto = tasks_pb2.Task(
        name=record.name,
        spec=tasks_pb2.TaskSpec.FromString(record.spec),
        state=tasks_pb2.TaskState.Value(f"TASK_STATE_{record.state.name}"),
        state_detail=record.detail,
        completed_rounds=record.completed_rounds,
        current_round=record.current.name if record.current else "",
        latest_model=version_name(record.name, record.latest_version),
        create_time=timestamp(record.create_ns),
        available_clients=available,
    )
    if record.next_round_ns is not None and record.state is TaskState.RUNNING:
        proto.next_round_time.CopyFrom(timestamp(record.next_round_ns))
    return proto
