"""All services of managed keys."""

from collections.abc import Callable
from typing import Any

from finsecure.keyservice.v1 import envelope_pb2_grpc, keys_pb2_grpc, model_signing_pb2_grpc

from finsecure_keyservice.keys.desk import KeyDesk
from finsecure_keyservice.keys.envelope_service import EnvelopeService
from finsecure_keyservice.keys.model_service import ModelSigningService
from finsecure_keyservice.keys.service import KeyManagementService


def services(desk: KeyDesk) -> list[tuple[Callable[[Any, Any], None], object]]:
    """Each with the generated function that adds it to a server."""
    return [
        (keys_pb2_grpc.add_KeyManagementServiceServicer_to_server, KeyManagementService(desk)),
        (envelope_pb2_grpc.add_EnvelopeServiceServicer_to_server, EnvelopeService(desk)),
        (
            model_signing_pb2_grpc.add_ModelSigningServiceServicer_to_server,
            ModelSigningService(desk),
        ),
    ]
