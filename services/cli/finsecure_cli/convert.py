"""Between the wire contract and what the command line shows and reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finsecure.aggregation.v1 import tasks_pb2
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.model_version import ModelVersion
from finsecure_rpc.validation import check_message
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from finsecure_cli.task_file import CategoricalColumn, SecuritySection, TaskFile

Document = dict[str, Any]


def document(message: Message) -> Document:
    """Turn a message into what `--json` prints.

    Field names are those of the contract; bytes are hexadecimal, times RFC 3339, durations
    seconds, enum values lower case without their prefix. Unset messages and unset optional fields
    are left out; all other fields are always there.
    """
    result: Document = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            result[field.name] = {str(key): _plain(inner, value[key]) for key in sorted(value)}
        elif field.is_repeated:
            result[field.name] = [_plain(field, item) for item in value]
        else:
            result[field.name] = _plain(field, value)
    return result


def _plain(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if isinstance(value, Duration):
        return value.ToNanoseconds() / 1e9
    if isinstance(value, Message):
        return document(value)
    if isinstance(value, bytes):
        return value.hex()
    if field.enum_type is not None:
        return _enum_text(field, value)
    return value


def _enum_text(field: Any, number: int) -> str:
    values = field.enum_type.values_by_number
    if number not in values:
        return str(number)  # a newer service's value
    prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(values[number].name.removeprefix(prefix).lower())


_MASKED_DEADLINES = {
    "advertise_keys_s",
    "share_keys_s",
    "submit_input_s",
    "confirm_survivors_s",
    "reveal_shares_s",
}
_ENCRYPTED_DEADLINES = {"submit_input_s", "opening_s"}


def task_spec(
    federation: str, task: TaskFile, tensors: Sequence[tuple[str, tuple[int, ...]]]
) -> tasks_pb2.TaskSpec:
    """Build the spec of a task.

    Args:
        federation: resource name of the federation.
        task: the task file.
        tensors: name and shape of each parameter, in the order of the update vector.

    Raises:
        InvalidArgumentError: INVALID_MESSAGE, naming each field that is out of bounds; the fault of
            the task file's owner.
    """
    spec = tasks_pb2.TaskSpec(
        model=tasks_pb2.ModelSpec(
            factory=task.model.factory,
            tensors=[tasks_pb2.TensorSpec(name=name, shape=shape) for name, shape in tensors],
        ),
        features=_features(task),
        training=tasks_pb2.TrainingSpec(**task.training.model_dump()),
        rounds=task.rounds,
        cohort=tasks_pb2.CohortSpec(**task.cohort.model_dump()),
        security=_security(federation, task.security),
        encoding=tasks_pb2.EncodingSpec(**task.encoding.model_dump()),
        server_optimizer=tasks_pb2.ServerOptimizerSpec(
            kind=tasks_pb2.ServerOptimizer.Value(
                f"SERVER_OPTIMIZER_{task.server_optimizer.kind.upper()}"
            ),
            **task.server_optimizer.model_dump(exclude={"kind"}),
        ),
        deadlines=tasks_pb2.DeadlineSpec(
            **{
                name.removesuffix("_s"): duration(seconds)
                for name, seconds in task.deadlines.model_dump(
                    include=_MASKED_DEADLINES if task.security.masked else _ENCRYPTED_DEADLINES
                ).items()
            }
        ),
    )
    if task.interval_s is not None:
        spec.interval.CopyFrom(duration(task.interval_s))
    if task.convergence is not None:
        spec.convergence.CopyFrom(tasks_pb2.ConvergenceSpec(**task.convergence.model_dump()))
    check_message(spec)
    return spec


def _security(federation: str, section: SecuritySection) -> tasks_pb2.SecuritySpec:
    if not section.masked:
        return tasks_pb2.SecuritySpec(
            protection=tasks_pb2.Protection.Value(f"PROTECTION_{section.protection.upper()}"),
            encryption_key=f"{federation}/encryptionKeys/{section.encryption_key}",
        )
    profile = tasks_pb2.SecurityProfile.Value(f"SECURITY_PROFILE_{section.profile.upper()}")
    security = tasks_pb2.SecuritySpec(profile=profile, protection=tasks_pb2.PROTECTION_MASKS)
    if section.sparse_graph is not None:
        security.sparse_graph.CopyFrom(tasks_pb2.SparseGraph(**section.sparse_graph.model_dump()))
    return security


def _features(task: TaskFile) -> tasks_pb2.FeatureSchema:
    schema = tasks_pb2.FeatureSchema(
        label=task.features.label,
        positive_value=task.features.positive_value,
        standardise=task.features.standardise,
    )
    for column in task.features.columns:
        feature = schema.features.add(column=column.column)
        if isinstance(column, CategoricalColumn):
            feature.categorical.values.extend(column.values)
        else:
            feature.numeric.SetInParent()
            feature.numeric.minimum = column.minimum
            feature.numeric.maximum = column.maximum
            feature.numeric.logarithmic = column.logarithmic
    return schema


def duration(seconds: float) -> Duration:
    """Make the wire's form of a duration."""
    made = Duration()
    made.FromNanoseconds(round(seconds * 1e9))
    return made


@dataclass(frozen=True)
class SignedModel:
    """The aggregator's signed description of a model version.

    Attributes:
        version: what is signed.
        signature: Ed25519 signature.
        certificate: signing certificate of the aggregator, DER.
        envelope: statement that a managed key signed, DSSE; empty if there is none.
    """

    version: ModelVersion
    signature: bytes
    certificate: bytes
    envelope: bytes


def signed_model(description: Mapping[str, Any]) -> SignedModel:
    """Read a model's description back from its document, as `model download` stores it.

    Raises:
        InvalidArgumentError: DESCRIPTION_INVALID, the fault of whoever changed it.
    """
    try:
        created = Timestamp()
        created.FromJsonString(description["create_time"])
        return SignedModel(
            version=ModelVersion(
                name=str(description["name"]),
                version=int(description["version"]),
                sha256=bytes.fromhex(description["sha256"]),
                size_bytes=int(description["size_bytes"]),
                parent_sha256=bytes.fromhex(description["parent_sha256"]),
                round=str(description["round"]),
                create_time_ns=created.ToNanoseconds(),
            ),
            signature=bytes.fromhex(description["signature"]),
            certificate=bytes.fromhex(description["signer_certificate"]),
            envelope=bytes.fromhex(description.get("envelope", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgumentError(
            "DESCRIPTION_INVALID",
            f"the description of a model is damaged ({type(error).__name__}: {error}); download "
            "the model again",
        ) from error
