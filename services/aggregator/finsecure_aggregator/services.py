"""All services of the aggregator."""

from collections.abc import Sequence

from finsecure.aggregation.v1 import (
    models_pb2_grpc,
    participation_pb2_grpc,
    sums_pb2_grpc,
    tasks_pb2_grpc,
)
from finsecure_rpc.server import Service

from finsecure_aggregator.desk import Desk
from finsecure_aggregator.model_service import ModelService
from finsecure_aggregator.participation_service import ParticipationService
from finsecure_aggregator.round_service import RoundService
from finsecure_aggregator.sums.service import AuditedSumService
from finsecure_aggregator.task_service import TaskService


def services(desk: Desk) -> Sequence[Service]:
    """All services of the aggregator, for `build_server`."""
    return (
        (tasks_pb2_grpc.add_TaskServiceServicer_to_server, TaskService(desk)),
        (tasks_pb2_grpc.add_RoundServiceServicer_to_server, RoundService(desk)),
        (models_pb2_grpc.add_ModelServiceServicer_to_server, ModelService(desk)),
        (
            participation_pb2_grpc.add_ParticipationServiceServicer_to_server,
            ParticipationService(desk),
        ),
        (
            sums_pb2_grpc.add_AuditedSumServiceServicer_to_server,
            AuditedSumService(desk.names, desk.sums),
        ),
    )
