"""Between the wire contract and this client's types; what the server sends is checked here.

The contract's own constraints are checked with protovalidate, what spans several fields below.
"""

import math
from datetime import UTC, datetime

from finsecure.aggregation.v1 import models_pb2, participation_pb2, tasks_pb2
from finsecure_crypto.errors import FinSecureError, ProtocolViolationError
from finsecure_crypto.federation import RoundKind
from finsecure_crypto.homomorphic.rounds import EncryptedInputHeader
from finsecure_crypto.model_version import ModelVersion
from finsecure_crypto.secagg import messages
from finsecure_rpc.key_advertisements import advertisement_of, advertisement_to_wire
from finsecure_rpc.status import InvalidMessageError
from finsecure_rpc.task_terms import terms_of
from finsecure_rpc.validation import check_message
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from finsecure_client.instructions import (
    EncryptedInvitation,
    Instruction,
    Invitation,
    Outcome,
    ServerMessage,
    Survivors,
)
from finsecure_client.terms import (
    CategoricalFeature,
    Feature,
    FeatureSchema,
    NumericFeature,
    Task,
    TaskStatus,
    TrainingTerms,
)
from finsecure_client.trust import SignedModel

_KINDS = {
    tasks_pb2.ROUND_KIND_STATISTICS: RoundKind.STATISTICS,
    tasks_pb2.ROUND_KIND_TRAINING: RoundKind.TRAINING,
}
MAXIMUM_NAME = 200
"""Most characters of a resource name."""
_OPEN_STATES = frozenset({tasks_pb2.TASK_STATE_AWAITING_MODEL, tasks_pb2.TASK_STATE_RUNNING})


def _violation(message: str) -> ProtocolViolationError:
    return ProtocolViolationError("MESSAGE_INVALID", f"the aggregator sent {message}")


def check(message: Message) -> None:
    """Check a received message against the constraints of the wire contract.

    Raises:
        ProtocolViolationError: MESSAGE_INVALID; the server's fault.
    """
    try:
        check_message(message)
    except InvalidMessageError as error:
        raise _violation(f"a {message.DESCRIPTOR.name}: {error.message}") from error


def task_status(message: tasks_pb2.Task) -> TaskStatus:
    """Read a task with its present state."""
    return TaskStatus(
        task=task(message),
        open=message.state in _OPEN_STATES,
        state=tasks_pb2.TaskState.Name(message.state).removeprefix("TASK_STATE_").lower(),
        detail=message.state_detail,
        completed_rounds=message.completed_rounds,
        latest_model=message.latest_model,
    )


def task(message: tasks_pb2.Task) -> Task:
    """Read a task's terms.

    Raises:
        ProtocolViolationError: MESSAGE_INVALID.
    """
    check(message)
    spec = message.spec
    schema = _schema(spec.features)
    if len({tensor.name for tensor in spec.model.tensors}) != len(spec.model.tensors):
        raise _violation("a model specification that names a tensor twice")
    try:
        terms = terms_of(spec)
    except FinSecureError as error:
        raise _violation(f"impossible terms: {error}") from error
    return Task(
        name=message.name,
        spec=spec.SerializeToString(deterministic=True),
        factory=spec.model.factory,
        schema=schema,
        training=TrainingTerms(
            epochs=spec.training.epochs,
            batch_size=spec.training.batch_size,
            learning_rate=spec.training.learning_rate,
            weight_decay=spec.training.weight_decay,
            positive_weight=spec.training.positive_weight,
            proximal=spec.training.proximal,
        ),
        terms=terms,
        rounds=spec.rounds,
        maximum_cohort=spec.cohort.maximum,
    )


def _schema(message: tasks_pb2.FeatureSchema) -> FeatureSchema:
    schema = FeatureSchema(
        features=tuple(_feature(feature) for feature in message.features),
        label=message.label,
        positive_value=message.positive_value,
        standardise=message.standardise,
    )
    columns = [feature.column for feature in schema.features]
    if len(set(columns)) != len(columns) or schema.label in columns:
        raise _violation("a feature schema that names a column twice")
    return schema


def _feature(message: tasks_pb2.Feature) -> Feature:
    if message.WhichOneof("kind") == "categorical":
        return CategoricalFeature(message.column, tuple(message.categorical.values))
    numeric = message.numeric
    if not 0 < numeric.maximum - numeric.minimum < math.inf:
        raise _violation(f"bounds of feature {message.column!r} that are not in order")
    return NumericFeature(message.column, numeric.minimum, numeric.maximum, numeric.logarithmic)


def signed_model(message: models_pb2.Model) -> SignedModel:
    """Read a model version's signed description.

    Raises:
        ProtocolViolationError: MESSAGE_INVALID.
    """
    check(message)
    return SignedModel(
        version=ModelVersion(
            name=message.name,
            version=message.version,
            sha256=message.sha256,
            size_bytes=message.size_bytes,
            parent_sha256=message.parent_sha256,
            round=message.round,
            create_time_ns=_nanoseconds(message.create_time),
        ),
        signature=message.signature,
        certificate=message.signer_certificate,
        envelope=message.envelope,
    )


def instruction(message: participation_pb2.WatchResponse) -> Instruction:
    """Read one instruction.

    Raises:
        ProtocolViolationError: MESSAGE_INVALID.
    """
    check(message)
    if len(message.round) > MAXIMUM_NAME:
        raise _violation("the name of a round that is too long")
    body: ServerMessage
    match message.WhichOneof("instruction"):
        case "advertise_keys":
            body = _invitation(message.advertise_keys)
        case "share_keys":
            body = _roster(message.share_keys)
        case "submit_input":
            delivery = message.submit_input
            body = messages.ShareDelivery(delivery.sharers, delivery.ciphertexts)
        case "confirm_survivors":
            body = Survivors(message.confirm_survivors.survivors)
        case "reveal_shares":
            confirmations = message.reveal_shares
            body = messages.Confirmations(confirmations.signers, confirmations.signatures)
        case "encrypt_input":
            encrypted = message.encrypt_input
            body = EncryptedInvitation(
                _invitation(encrypted.invitation), encrypted.encryption_key_digest
            )
        case "outcome":
            outcome = message.outcome
            body = Outcome(
                outcome.state == tasks_pb2.ROUND_STATE_COMPLETED, outcome.reason, outcome.detail
            )
        case _:
            raise _violation("an instruction of a kind that this version does not know; update")
    if not message.HasField("deadline") and not isinstance(body, Outcome):
        raise _violation("an instruction without a deadline")
    return Instruction(message.round, _time(message.deadline), body)


def _time(stamp: Timestamp) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise _violation("a time that is none") from error


def _nanoseconds(stamp: Timestamp) -> int:
    try:
        nanoseconds = stamp.ToNanoseconds()
    except (ValueError, OverflowError) as error:
        raise _violation("a time that is none") from error
    if nanoseconds < 0:
        raise _violation("a time before 1970")
    return nanoseconds


def _invitation(message: participation_pb2.RoundInvitation) -> Invitation:
    kind = _KINDS.get(message.kind)
    if kind is None:
        raise _violation("an invitation to a kind of round that this version does not know; update")
    return Invitation(
        task=task(message.task),
        kind=kind,
        number=message.number,
        attempt=message.attempt,
        attempt_nonce=message.attempt_nonce,
        base_model=signed_model(message.base_model),
        invited=message.invited,
        minimum_cohort=message.minimum_cohort,
    )


def _roster(message: participation_pb2.Roster) -> messages.Roster:
    return messages.Roster(
        size=message.size,
        root=message.root,
        index=message.index,
        entries=tuple(
            messages.RosterEntry(
                entry.index,
                advertisement_of(entry.advertisement),
                tuple(entry.inclusion_proof),
            )
            for entry in message.entries
        ),
    )


def key_advertisement(
    round_name: str, message: messages.KeyAdvertisement
) -> participation_pb2.AdvertiseKeysRequest:
    """Make the message of phase 1."""
    return participation_pb2.AdvertiseKeysRequest(
        round=round_name,
        advertisement=advertisement_to_wire(message),
    )


def key_shares(round_name: str, message: messages.KeyShares) -> participation_pb2.ShareKeysRequest:
    """Make the message of phase 2."""
    return participation_pb2.ShareKeysRequest(
        round=round_name,
        ciphertexts=message.ciphertexts,
        self_mask_commitment=message.self_mask_commitment,
        signature=message.signature,
    )


def input_header(
    round_name: str, message: messages.MaskedInputHeader | EncryptedInputHeader
) -> participation_pb2.SubmitInputRequest:
    """Make the header of an upload."""
    certificate = message.certificate if isinstance(message, EncryptedInputHeader) else b""
    return participation_pb2.SubmitInputRequest(
        header=participation_pb2.InputHeader(
            round=round_name,
            size_bytes=message.size_bytes,
            sha256=message.sha256,
            signature=message.signature,
            certificate=certificate,
        )
    )


def confirmation(
    round_name: str, message: messages.SurvivorConfirmation
) -> participation_pb2.ConfirmSurvivorsRequest:
    """Make the message of phase 4."""
    return participation_pb2.ConfirmSurvivorsRequest(round=round_name, signature=message.signature)


def revealed_shares(
    round_name: str, message: messages.RevealedShares
) -> participation_pb2.RevealSharesRequest:
    """Make the message of phase 5."""
    return participation_pb2.RevealSharesRequest(
        round=round_name,
        self_mask_shares=message.self_mask_shares,
        mask_key_shares=message.mask_key_shares,
        unreadable=message.unreadable,
    )
