"""A task's terms as the aggregator works by them, and the rules that a new task must satisfy.

The wire contract bounds each field on its own; here are the rules between fields. Each has its
own reason code, and whoever creates the task has to change it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finsecure_crypto.attempt import Attempt
from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.federation import (
    Encryption,
    Masking,
    RoundKind,
    Terms,
    round_attempt,
    round_parameters,
)
from finsecure_crypto.masking import WORD_BYTES
from finsecure_crypto.secagg.parameters import Profile

from finsecure_aggregator.optimizer import Optimizer, OptimizerKind
from finsecure_aggregator.records import ENCRYPTED_PHASES, MASKED_PHASES, RoundState

SECOND_NS = 10**9
MIN_DEADLINE_NS = SECOND_NS // 10
MAX_DEADLINE_NS = 7 * 86400 * SECOND_NS
MAX_INTERVAL_NS = 366 * 86400 * SECOND_NS
# Every client gets the whole roster of a complete graph, about 1 kB an entry, in one message.
MAX_COMPLETE_COHORT = 2000
MAX_VECTOR_BYTES = 2**34  # what InputHeader.size_bytes may say


@dataclass(frozen=True)
class Column:
    """One input column; bounds only of a numeric one."""

    name: str
    bounds: tuple[float, float] | None


@dataclass(frozen=True)
class Convergence:
    """When training has settled.

    Attributes:
        patience: training rounds without a better loss after which it ends.
        minimum_decrease: smallest decrease of the loss that counts as better.
    """

    patience: int
    minimum_decrease: float


@dataclass(frozen=True)
class Plan:
    """A task's terms.

    Attributes:
        name: resource name of the task.
        spec: deterministic serialisation of the TaskSpec.
        terms: what shapes its rounds.
        columns: input columns.
        label: column of the outcome.
        standardise: whether round 0 computes means and variances.
        rounds: training rounds, at most.
        interval_ns: from the start of one training round to the start of the next.
        maximum_cohort: most clients of a round.
        optimizer: how the mean update is applied.
        convergence: None means that all rounds run.
        deadlines_ns: how long each phase waits.
    """

    name: str
    spec: bytes
    terms: Terms
    columns: tuple[Column, ...]
    label: str
    standardise: bool
    rounds: int
    interval_ns: int
    maximum_cohort: int
    optimizer: Optimizer
    convergence: Convergence | None
    deadlines_ns: Mapping[RoundState, int]

    @property
    def phases(self) -> Sequence[RoundState]:
        """The phases of a round in which clients speak, in order."""
        masked = isinstance(self.terms.protection, Masking)
        return MASKED_PHASES if masked else ENCRYPTED_PHASES

    @property
    def kinds(self) -> Sequence[RoundKind]:
        """What the task's rounds add up."""
        return [RoundKind.STATISTICS] * self.standardise + [RoundKind.TRAINING]

    def layouts(self) -> Sequence[VectorLayout]:
        """Lay out the vectors of the largest rounds, one for each kind.

        Raises:
            InvalidArgumentError: LANE_OVERFLOW.
        """
        return [self.terms.layout(kind, self.maximum_cohort) for kind in self.kinds]

    def check(self) -> None:
        """Check the rules between fields; whether an encryption key fits is checked with the key.

        Raises:
            InvalidArgumentError: one code for each rule.
        """
        self._check_columns()
        self._check_tensors()
        self._check_optimizer()
        self._check_times()
        self._check_cohort()

    def _check_columns(self) -> None:
        names = [column.name for column in self.columns]
        if repeated := _first_repeated(names):
            raise InvalidArgumentError(
                "DUPLICATE_COLUMN", f"the column {repeated!r} is named twice; name each once"
            )
        if self.label in names:
            raise InvalidArgumentError(
                "LABEL_IS_FEATURE",
                f"the label {self.label!r} is among the features; the model would read the answer",
            )
        for column in self.columns:
            if column.bounds is None:
                continue
            if not 0 < column.bounds[1] - column.bounds[0] < math.inf:
                raise InvalidArgumentError(
                    "FEATURE_BOUNDS",
                    f"the minimum of the column {column.name!r} is not below its maximum, or too "
                    "far below it for a 64-bit number",
                )
        if self.standardise and not self.terms.numeric_features:
            raise InvalidArgumentError(
                "NO_NUMERIC_FEATURES",
                "there is no numeric feature to standardise; turn standardise off",
            )

    def _check_tensors(self) -> None:
        names = [tensor.name for tensor in self.terms.tensors]
        if repeated := _first_repeated(names):
            raise InvalidArgumentError(
                "DUPLICATE_TENSOR", f"the tensor {repeated!r} is named twice; name each once"
            )
        if any(name.startswith("standardise.") for name in names):
            raise InvalidArgumentError(
                "TENSOR_NAME_RESERVED",
                "tensors named standardise.… are the aggregator's; rename the model's",
            )

    def _check_optimizer(self) -> None:
        optimizer = self.optimizer
        if optimizer.kind is OptimizerKind.ADAM and not (optimizer.tau > 0 < optimizer.beta2):
            raise InvalidArgumentError(
                "OPTIMIZER_PARAMETERS",
                "FedAdam needs beta2 > 0 and tau > 0; 0.99 and 0.001 are usual",
            )
        if optimizer.kind is OptimizerKind.MOMENTUM and not optimizer.beta1 > 0:
            raise InvalidArgumentError(
                "OPTIMIZER_PARAMETERS",
                "momentum needs beta1 > 0; 0.9 is usual, or choose the plain average",
            )

    def _check_times(self) -> None:
        timed = list(self.phases)
        if isinstance(self.terms.protection, Encryption):
            timed.append(RoundState.OPENING)
        for phase in timed:
            if not MIN_DEADLINE_NS <= self.deadlines_ns[phase] <= MAX_DEADLINE_NS:
                raise InvalidArgumentError(
                    "DEADLINE_RANGE",
                    f"the deadline of {phase.value} is not between 0.1 seconds and 7 days",
                )
        if not 0 <= self.interval_ns <= MAX_INTERVAL_NS:
            raise InvalidArgumentError(
                "INTERVAL_RANGE", "the interval between rounds is not between 0 and 366 days"
            )

    def _check_cohort(self) -> None:
        terms = self.terms
        if terms.minimum_cohort > self.maximum_cohort:
            raise InvalidArgumentError(
                "COHORT_RANGE",
                f"the minimum cohort {terms.minimum_cohort} is above the maximum "
                f"{self.maximum_cohort}",
            )
        # Building the largest rounds refuses lanes that do not fit (LANE_OVERFLOW).
        for kind in self.kinds:
            attempt = round_attempt(
                terms,
                task_name=self.name,
                spec=self.spec,
                kind=kind,
                number=int(kind is RoundKind.TRAINING),
                attempt=1,
                attempt_nonce=bytes(32),
                model_digest=bytes(32),
                invited=self.maximum_cohort,
            )
            require_size(WORD_BYTES * attempt.layout.words)
        if isinstance(terms.protection, Masking):
            self._check_graph(attempt, terms.protection)

    def _check_graph(self, attempt: Attempt, masking: Masking) -> None:
        if masking.graph is None:
            if self.maximum_cohort > MAX_COMPLETE_COHORT:
                raise InvalidArgumentError(
                    "COMPLETE_GRAPH_TOO_LARGE",
                    f"with more than {MAX_COMPLETE_COHORT} clients not every one can mask with "
                    "every other; set security.sparse_graph",
                )
            return
        size = self.maximum_cohort
        thresholds = round_parameters(attempt, masking).thresholds(size)
        corrupt = math.floor(masking.graph.corrupt_fraction * size)
        left = math.ceil((1 - masking.graph.dropout_fraction) * size)
        bound = thresholds.threshold
        if masking.profile is Profile.ACTIVE:
            bound = -(-size // 3)
        if thresholds.complete and (left < thresholds.threshold or corrupt >= bound):
            raise InvalidArgumentError(
                "SPARSE_GRAPH_INFEASIBLE",
                f"no graph over {size} clients withstands that many colluding and dropped-out "
                "clients; lower corrupt_fraction or dropout_fraction",
            )


def require_size(input_bytes: int) -> None:
    """Refuse inputs that the wire contract has no room for; MODEL_TOO_LARGE, the owner's fault."""
    if input_bytes > MAX_VECTOR_BYTES:
        raise InvalidArgumentError(
            "MODEL_TOO_LARGE",
            f"an input would have {input_bytes} bytes, more than {MAX_VECTOR_BYTES}; use fewer "
            "coordinates, value bits or clients",
        )


def _first_repeated(names: list[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
