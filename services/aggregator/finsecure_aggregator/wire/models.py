"""Model versions on the wire."""

import hashlib

from finsecure.aggregation.v1 import models_pb2, tasks_pb2
from finsecure.keyservice.v1 import model_signing_pb2
from finsecure_crypto.model_statement import ModelStatement, architecture_digest
from finsecure_rpc.model_statements import statement_to_wire

from finsecure_aggregator.plan import Plan
from finsecure_aggregator.records import ModelRecord
from finsecure_aggregator.wire.times import timestamp


def version_name(task_name: str, version: int | None) -> str:
    """Make the resource name of a model version; empty for None."""
    return "" if version is None else f"{task_name}/models/{version}"


def model_to_wire(record: ModelRecord, quarantine: str = "") -> models_pb2.Model:
    """Make the wire's form of a model version."""
    return models_pb2.Model(
        name=record.name,
        version=record.version,
        sha256=record.sha256,
        size_bytes=record.size_bytes,
        parent_sha256=record.parent_sha256,
        round=record.round,
        create_time=timestamp(record.create_ns),
        signature=record.signature,
        signer_certificate=record.certificate,
        quarantine_reason=quarantine,
        envelope=record.envelope,
    )


def sign_request(key: str, plan: Plan, record: ModelRecord) -> model_signing_pb2.SignModelRequest:
    """Ask for a signed statement about a model version."""
    spec = tasks_pb2.TaskSpec.FromString(plan.spec)
    statement = ModelStatement(
        version=record.described,
        architecture=architecture_digest(
            spec.model.factory, [(tensor.name, tensor.shape) for tensor in plan.terms.tensors]
        ),
        configuration=hashlib.sha256(plan.spec).digest(),
    )
    return model_signing_pb2.SignModelRequest(key=key, statement=statement_to_wire(statement))
