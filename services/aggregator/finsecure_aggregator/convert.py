"""Between the wire's messages and the aggregator's own types; wire bounds are checked here."""

import hashlib
from dataclasses import dataclass

from finsecure.aggregation.v1 import models_pb2, participation_pb2, tasks_pb2
from finsecure.keyservice.v1 import model_signing_pb2
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.federation import Encryption, Masking, RoundKind, Tensor, Terms
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.rounds import EncryptedInputHeader
from finsecure_crypto.model_statement import ModelStatement, architecture_digest
from finsecure_crypto.secagg import messages
from finsecure_crypto.secagg.parameters import Profile, SparseGraph
from finsecure_rpc.model_statements import statement_to_wire
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as Proto
from google.protobuf.timestamp_pb2 import Timestamp

from finsecure_aggregator.optimizer import Optimizer, OptimizerKind
from finsecure_aggregator.plan import Column, Convergence, Plan
from finsecure_aggregator.records import (
    ModelRecord,
    RoundKey,
    RoundRecord,
    RoundState,
    TaskRecord,
    TaskState,
)

_PROFILES = {
    tasks_pb2.SECURITY_PROFILE_ACTIVE: Profile.ACTIVE,
    tasks_pb2.SECURITY_PROFILE_SEMI_HONEST: Profile.SEMI_HONEST,
}
_MODES = {
    tasks_pb2.PROTECTION_PAILLIER: Mode.PAILLIER,
    tasks_pb2.PROTECTION_BGV: Mode.BGV,
    tasks_pb2.PROTECTION_CKKS: Mode.CKKS,
}
_OPTIMIZERS = {
    tasks_pb2.SERVER_OPTIMIZER_AVERAGE: OptimizerKind.AVERAGE,
    tasks_pb2.SERVER_OPTIMIZER_MOMENTUM: OptimizerKind.MOMENTUM,
    tasks_pb2.SERVER_OPTIMIZER_ADAM: OptimizerKind.ADAM,
}


@dataclass(frozen=True)
class Outcome:
    """How a round ended, as each of its clients hears it."""

    state: RoundState
    reason: str
    detail: str


@dataclass(frozen=True)
class Invitation:
    """What opens a round for a client."""

    task: TaskRecord
    round: RoundRecord
    base_model: ModelRecord


@dataclass(frozen=True)
class EncryptedInvitation:
    """What opens an encrypted round for a client.

    Attributes:
        invitation: what every round has.
        key_digest: digest of the encryption key, 32 bytes.
    """

    invitation: Invitation
    key_digest: bytes


ClientMessage = messages.ClientMessage | EncryptedInputHeader
Body = (
    Invitation
    | EncryptedInvitation
    | messages.Roster
    | messages.ShareDelivery
    | bytes
    | messages.Confirmations
    | Outcome
)


@dataclass(frozen=True)
class Instruction:
    """One thing that a round asks of, or tells, one client.

    Attributes:
        key: of the round.
        state: that the round is in; with `key` it identifies the instruction.
        deadline_ns: when the phase closes.
        body: what to do; bare bytes are the bitmap of survivors.
    """

    key: RoundKey
    state: RoundState
    deadline_ns: int
    body: Body


def spec_bytes(spec: tasks_pb2.TaskSpec) -> bytes:
    """Serialise a spec the way that its digest is taken over."""
    return spec.SerializeToString(deterministic=True)


def plan(name: str, spec: bytes) -> Plan:
    """Read a serialised TaskSpec; the rules between its fields are `Plan.check`'s.

    Raises:
        InvalidArgumentError: PROTECTION_MIXED or what a field's type refuses; the owner's fault.
    """
    proto = tasks_pb2.TaskSpec.FromString(spec)
    encoding, server = proto.encoding, proto.server_optimizer
    features = proto.features.features
    return Plan(
        name=name,
        spec=spec,
        terms=Terms(
            tensors=tuple(Tensor(t.name, tuple(t.shape)) for t in proto.model.tensors),
            numeric_features=sum(f.WhichOneof("kind") == "numeric" for f in features),
            weight_cap=proto.cohort.weight_cap,
            value_bits=encoding.value_bits,
            clip_norm=encoding.clip_norm,
            clip_value=encoding.clip_value,
            score_bins=encoding.score_bins,
            minimum_cohort=proto.cohort.minimum,
            protection=_protection(proto.security),
        ),
        columns=tuple(
            Column(
                f.column,
                (f.numeric.minimum, f.numeric.maximum) if f.HasField("numeric") else None,
            )
            for f in features
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


def _protection(security: tasks_pb2.SecuritySpec) -> Masking | Encryption:
    mode = _MODES.get(security.protection)
    sparse = security.sparse_graph if security.HasField("sparse_graph") else None
    if mode is not None:
        if security.profile or sparse is not None or not security.encryption_key:
            raise _mixed("an encryption mode needs encryption_key, and no profile or sparse_graph")
        return Encryption(mode, security.encryption_key)
    if security.profile not in _PROFILES or security.encryption_key:
        raise _mixed("masks need a profile, and no encryption_key")
    return Masking(
        _PROFILES[security.profile],
        SparseGraph(sparse.corrupt_fraction, sparse.dropout_fraction) if sparse else None,
    )


def _mixed(rule: str) -> InvalidArgumentError:
    return InvalidArgumentError("PROTECTION_MIXED", f"the task's security does not fit: {rule}")


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


def task(record: TaskRecord, available: int) -> tasks_pb2.Task:
    """Make the wire's form of a task."""
    proto = tasks_pb2.Task(
        name=record.name,
        spec=tasks_pb2.TaskSpec.FromString(record.spec),
        state=tasks_pb2.TaskState.Value(f"TASK_STATE_{record.state.name}"),
        state_detail=record.detail,
        completed_rounds=record.completed_rounds,
        current_round=record.current.name if record.current else "",
        latest_model=_model_name(record.name, record.latest_version),
        create_time=timestamp(record.create_ns),
        available_clients=available,
    )
    if record.next_round_ns is not None and record.state is TaskState.RUNNING:
        proto.next_round_time.CopyFrom(timestamp(record.next_round_ns))
    return proto


def _model_name(task_name: str, version: int | None) -> str:
    return "" if version is None else f"{task_name}/models/{version}"


_KINDS = {
    RoundKind.STATISTICS: tasks_pb2.ROUND_KIND_STATISTICS,
    RoundKind.TRAINING: tasks_pb2.ROUND_KIND_TRAINING,
}


def round_state(state: RoundState) -> tasks_pb2.RoundState.ValueType:
    """Make the wire's form of a round's state."""
    return tasks_pb2.RoundState.Value(f"ROUND_STATE_{state.name}")


def round_(record: RoundRecord) -> tasks_pb2.Round:
    """Make the wire's form of a round."""
    proto = tasks_pb2.Round(
        name=record.key.name,
        number=record.key.number,
        attempt=record.key.attempt,
        kind=_KINDS[record.kind],
        state=round_state(record.state),
        abort_reason=record.abort_reason,
        abort_detail=record.abort_detail,
        base_model=_model_name(record.key.task, record.base_version),
        result_model=_model_name(record.key.task, record.result_version),
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
            phase=round_state(phase.phase),
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


def model(record: ModelRecord, quarantine: str = "") -> models_pb2.Model:
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


class Instructions:
    """Makes the wire's form of instructions; what many clients are shown is made once a round."""

    def __init__(self) -> None:
        self._entries: dict[RoundKey, dict[int, participation_pb2.RosterEntry]] = {}

    def write(self, item: Instruction) -> participation_pb2.WatchResponse:
        """Make the wire's form of an instruction."""
        if not isinstance(item.body, messages.Roster):
            self._entries.pop(item.key, None)  # the phase of rosters is over
            return _instruction(item)
        made = self._entries.setdefault(item.key, {})
        for entry in item.body.entries:
            if entry.index not in made:
                made[entry.index] = participation_pb2.RosterEntry(
                    index=entry.index,
                    advertisement=_advertisement(entry.advertisement),
                    inclusion_proof=entry.inclusion_proof,
                )
        proto = _instruction(item)
        proto.share_keys.entries.extend([made[entry.index] for entry in item.body.entries])
        return proto


def _instruction(item: Instruction) -> participation_pb2.WatchResponse:
    proto = participation_pb2.WatchResponse(
        round=item.key.name, deadline=timestamp(item.deadline_ns)
    )
    match item.body:
        case Invitation():
            proto.advertise_keys.CopyFrom(_invitation(item.body))
        case EncryptedInvitation(invitation, key_digest):
            proto.encrypt_input.invitation.CopyFrom(_invitation(invitation))
            proto.encrypt_input.encryption_key_digest = key_digest
        case messages.Roster() as roster:
            proto.share_keys.size = roster.size
            proto.share_keys.root = roster.root
            proto.share_keys.index = roster.index
        case messages.ShareDelivery() as delivery:
            proto.submit_input.sharers = delivery.sharers
            proto.submit_input.ciphertexts = delivery.ciphertexts
        case bytes() as survivors:
            proto.confirm_survivors.survivors = survivors
        case messages.Confirmations() as confirmations:
            proto.reveal_shares.signers = confirmations.signers
            proto.reveal_shares.signatures = confirmations.signatures
        case Outcome() as outcome:
            proto.outcome.state = round_state(outcome.state)
            proto.outcome.reason = outcome.reason
            proto.outcome.detail = outcome.detail
    return proto


def _invitation(item: Invitation) -> participation_pb2.RoundInvitation:
    record = item.round
    # Only what never changes and what the client needs: the receiver may be any of the invited.
    return participation_pb2.RoundInvitation(
        task=tasks_pb2.Task(
            name=item.task.name, spec=tasks_pb2.TaskSpec.FromString(item.task.spec)
        ),
        kind=_KINDS[record.kind],
        number=record.key.number,
        attempt=record.key.attempt,
        attempt_nonce=record.nonce,
        base_model=model(item.base_model),
        invited=len(record.invited),
    )


def _advertisement(item: messages.KeyAdvertisement) -> participation_pb2.KeyAdvertisement:
    return participation_pb2.KeyAdvertisement(
        client=item.client,
        channel_key=item.channel_key,
        mask_key=item.mask_key,
        signature=item.signature,
        certificate=item.certificate,
    )


def input_header(payload: bytes) -> messages.MaskedInputHeader | EncryptedInputHeader:
    """Read the serialised header of an upload; one with a certificate is an encrypted input's."""
    header = participation_pb2.InputHeader.FromString(payload)
    if header.certificate:
        return EncryptedInputHeader(
            header.size_bytes, header.sha256, header.signature, header.certificate
        )
    return messages.MaskedInputHeader(header.size_bytes, header.sha256, header.signature)


def client_message(phase: RoundState, payload: bytes) -> ClientMessage:
    """Read a client's serialised request, from the wire or from the log.

    Args:
        phase: that the request belongs to.
        payload: AdvertiseKeysRequest, ShareKeysRequest, InputHeader,
            ConfirmSurvivorsRequest or RevealSharesRequest.
    """
    match phase:
        case RoundState.ADVERTISE_KEYS:
            keys = participation_pb2.AdvertiseKeysRequest.FromString(payload).advertisement
            return messages.KeyAdvertisement(
                keys.client, keys.channel_key, keys.mask_key, keys.signature, keys.certificate
            )
        case RoundState.SHARE_KEYS:
            sharing = participation_pb2.ShareKeysRequest.FromString(payload)
            return messages.KeyShares(
                sharing.ciphertexts, sharing.self_mask_commitment, sharing.signature
            )
        case RoundState.SUBMIT_INPUT:
            return input_header(payload)
        case RoundState.CONFIRM_SURVIVORS:
            confirmation = participation_pb2.ConfirmSurvivorsRequest.FromString(payload)
            return messages.SurvivorConfirmation(confirmation.signature)
        case RoundState.REVEAL_SHARES:
            revealed = participation_pb2.RevealSharesRequest.FromString(payload)
            return messages.RevealedShares(
                revealed.self_mask_shares, revealed.mask_key_shares, revealed.unreadable
            )
        case _:
            raise ValueError(f"clients say nothing in {phase}")


def serialised(request: Proto) -> bytes:
    """Serialise a request for the log."""
    return request.SerializeToString(deterministic=True)
