"""The aggregator's durable facts, as plain records: what the store keeps and everything reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from finsecure_crypto.federation import RoundKind, RoundMetrics
from finsecure_crypto.model_version import ModelVersion


class TaskState(Enum):
    """Where a task stands."""

    AWAITING_MODEL = "awaiting_model"
    RUNNING = "running"
    COMPLETED = "completed"
    CONVERGED = "converged"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the task."""
        return self not in (TaskState.AWAITING_MODEL, TaskState.RUNNING)


class RoundState(Enum):
    """Where a round stands: a phase in which clients speak, then the sum, then the end."""

    ADVERTISE_KEYS = "advertise_keys"
    SHARE_KEYS = "share_keys"
    SUBMIT_INPUT = "submit_input"
    CONFIRM_SURVIVORS = "confirm_survivors"
    REVEAL_SHARES = "reveal_shares"
    UNMASKING = "unmasking"
    OPENING = "opening"
    COMPLETED = "completed"
    ABORTED = "aborted"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the round."""
        return self in (RoundState.COMPLETED, RoundState.ABORTED)


# The phases in which clients speak, in their order; what follows on them is the sum.
MASKED_PHASES = (
    RoundState.ADVERTISE_KEYS,
    RoundState.SHARE_KEYS,
    RoundState.SUBMIT_INPUT,
    RoundState.CONFIRM_SURVIVORS,
    RoundState.REVEAL_SHARES,
)
ENCRYPTED_PHASES = (RoundState.SUBMIT_INPUT,)


@dataclass(frozen=True, order=True)
class RoundKey:
    """Identifies one attempt at one round of a task.

    Attributes:
        task: resource name of the task.
        number: of the round; 0 is the statistics round.
        attempt: at that number, from 1.
    """

    task: str
    number: int
    attempt: int

    @property
    def name(self) -> str:
        """Resource name."""
        return f"{self.task}/rounds/{self.number}-{self.attempt}"


@dataclass(frozen=True)
class TaskRecord:
    """One task.

    Attributes:
        name: resource name.
        spec: deterministic serialisation of its TaskSpec.
        state: where it stands.
        detail: what the state means in words.
        completed_rounds: training rounds done.
        current: the round that runs.
        latest_version: newest model version.
        next_round_ns: when the next round starts, between rounds.
        best_loss: lowest global loss so far.
        stale_rounds: training rounds since it last fell by enough.
        create_ns: when it was created.
    """

    name: str
    spec: bytes
    state: TaskState
    detail: str
    create_ns: int
    completed_rounds: int = 0
    current: RoundKey | None = None
    latest_version: int | None = None
    next_round_ns: int | None = None
    best_loss: float | None = None
    stale_rounds: int = 0


@dataclass(frozen=True)
class PhaseRecord:
    """One phase of a round.

    Attributes:
        phase: which.
        open_ns: when it opened.
        deadline_ns: when it closes at the latest.
        close_ns: when it closed; None while it is open.
    """

    phase: RoundState
    open_ns: int
    deadline_ns: int
    close_ns: int | None = None


@dataclass(frozen=True)
class TrusteeAnswer:
    """What a trustee did when it was asked to help open a round's sum.

    Attributes:
        holder: number of its key share, from 1.
        trustee: its id.
        reason: code why its partial decryption was not had or not believed; empty where it served.
    """

    holder: int
    trustee: str
    reason: str


@dataclass(frozen=True)
class RoundRecord:
    """One attempt at a round.

    Attributes:
        key: which.
        kind: what it adds up.
        state: where it stands.
        nonce: 32 random bytes.
        base_version: model version that it starts from.
        invited: ids of the invited clients, sorted.
        minimum_cohort: fewest of them whose inputs may be summed.
        start_ns: when it started.
        phases: so far, in order.
        end_ns: when it ended.
        result_version: model version that it made.
        abort_reason: reason code where it was aborted.
        abort_detail: what that means in words.
        blamed: (client id, reason code) of clients that broke the protocol.
        metrics: once completed.
        clients: ids by phase whose message was accepted, in order of acceptance.
        received_bytes: of accepted messages by client id.
        trustees: what those said that were asked to open an encrypted sum.
    """

    key: RoundKey
    kind: RoundKind
    state: RoundState
    nonce: bytes
    base_version: int
    invited: tuple[str, ...]
    minimum_cohort: int
    start_ns: int
    phases: tuple[PhaseRecord, ...] = ()
    end_ns: int | None = None
    result_version: int | None = None
    abort_reason: str = ""
    abort_detail: str = ""
    blamed: tuple[tuple[str, str], ...] = ()
    metrics: RoundMetrics | None = None
    clients: Mapping[RoundState, tuple[str, ...]] = field(default_factory=dict)
    received_bytes: Mapping[str, int] = field(default_factory=dict)
    trustees: tuple[TrusteeAnswer, ...] = ()


@dataclass(frozen=True)
class Message:
    """An accepted client message as it lies in the log.

    Attributes:
        phase: in which it was accepted.
        client: id of the sender.
        digest: SHA-256 of the payload; stays when the payload is dropped after the round.
        payload: the serialised request; empty once the round is over.
        size_bytes: what the client sent, its input included.
    """

    phase: RoundState
    client: str
    digest: bytes
    payload: bytes
    size_bytes: int


@dataclass(frozen=True)
class Decline:
    """A client's refusal to take part in a round.

    Attributes:
        client: id.
        reason: reason code.
    """

    client: str
    reason: str


@dataclass(frozen=True)
class ModelRecord:
    """One signed model version.

    Attributes:
        task: resource name of its task.
        version: from 0.
        sha256: of the file.
        size_bytes: of the file.
        parent_sha256: of the version before; empty for version 0.
        round: resource name of the round that made it; empty for version 0.
        create_ns: when it was made.
        signature: Ed25519, 64 bytes.
        certificate: signing certificate of the aggregator, DER.
        envelope: statement that a managed key signed, DSSE; empty where none is configured.
    """

    task: str
    version: int
    sha256: bytes
    size_bytes: int
    parent_sha256: bytes
    round: str
    create_ns: int
    signature: bytes
    certificate: bytes
    envelope: bytes = b""

    @property
    def name(self) -> str:
        """Resource name."""
        return f"{self.task}/models/{self.version}"

    @property
    def described(self) -> ModelVersion:
        """What is signed about it."""
        return ModelVersion(
            name=self.name,
            version=self.version,
            sha256=self.sha256,
            size_bytes=self.size_bytes,
            parent_sha256=self.parent_sha256,
            round=self.round,
            create_time_ns=self.create_ns,
        )
