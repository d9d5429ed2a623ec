"""What a round of a federation adds up, and what its sums mean; aggregator and clients share it.

Both sides build a round's parameters from the same public terms, so they derive the same context
and lay the same vector out. Everything that a client contributes, its weight and its metrics
included, is a section of that vector: nothing about one client travels in clear.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import transcript
from finsecure_crypto.attempt import Attempt
from finsecure_crypto.encoding import CountSection, RealSection, VectorLayout, clip_norm
from finsecure_crypto.errors import InvalidArgumentError, StateError
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.rounds import EncryptedRoundParameters
from finsecure_crypto.secagg.parameters import Profile, RoundParameters, SparseGraph

STANDARDISE_MEAN = "standardise.mean"
STANDARDISE_SCALE = "standardise.scale"

_MOMENT_BITS = 32
_MAX_EXAMPLES = 2**32 - 1
_MAX_LOSS_Q16 = 2**46
# Below this variance (of a feature scaled to [0, 1]) the quantisation noise of the moments is
# no longer small beside it: such a feature counts as constant.
_MIN_VARIANCE = 2.0**-26


class RoundKind(Enum):
    """What a round adds up."""

    STATISTICS = "statistics"
    TRAINING = "training"


@dataclass(frozen=True)
class Tensor:
    """One float32 tensor of the model.

    Attributes:
        name: as in the model's state.
        shape: sizes of the axes; empty means a scalar.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return prod(self.shape)


@dataclass(frozen=True)
class Masking:
    """Inputs are hidden by pairwise masks.

    Attributes:
        profile: against which aggregator a round holds.
        graph: sparse masking graph; None means the complete one.
    """

    profile: Profile
    graph: SparseGraph | None


@dataclass(frozen=True)
class Encryption:
    """Inputs are encrypted under a key whose shares trustees hold.

    Attributes:
        mode: the scheme.
        key_name: resource name of the encryption key.
    """

    mode: Mode
    key_name: str


@dataclass(frozen=True)
class Terms:
    """The public terms of a task, as far as they shape its rounds.

    Attributes:
        tensors: in the order in which they lie in the update vector.
        numeric_features: how many input columns are numbers.
        weight_cap: most examples that count as a client's weight.
        value_bits: bits of one quantised coordinate.
        clip_norm: L2 norm to which an update is clipped.
        clip_value: absolute value to which each coordinate is clipped afterwards.
        score_bins: bins of the score histogram; 0 means none.
        minimum_cohort: fewest clients whose inputs may be summed.
        protection: how inputs are hidden from the aggregator.
    """

    tensors: tuple[Tensor, ...]
    numeric_features: int
    weight_cap: int
    value_bits: int
    clip_norm: float
    clip_value: float
    score_bins: int
    minimum_cohort: int
    protection: Masking | Encryption

    @cached_property
    def coordinates(self) -> int:
        """Coordinates of the update vector (the papers' d)."""
        return sum(tensor.size for tensor in self.tensors)

    def at_least(self, minimum_cohort: int) -> Self:
        """The same terms for a round that sums at least so many inputs; never fewer than these."""
        return replace(self, minimum_cohort=max(self.minimum_cohort, minimum_cohort))

    def layout(self, kind: RoundKind, cohort: int) -> VectorLayout:
        """Lay out the vector that each of `cohort` invited clients submits.

        Raises:
            InvalidArgumentError: LANE_OVERFLOW, where a sum would not fit into 64 bits.
        """
        weight = CountSection("weight", 1, self.weight_cap)
        if kind is RoundKind.STATISTICS:
            if not self.numeric_features:
                raise InvalidArgumentError(
                    "NO_NUMERIC_FEATURES",
                    "there is no numeric feature to standardise; turn standardise off",
                )
            moments = RealSection("moments", 2 * self.numeric_features, 1.0, _MOMENT_BITS)
            return VectorLayout((weight, moments), cohort)
        scores = (
            (CountSection("scores", 2 * self.score_bins, _MAX_EXAMPLES),) if self.score_bins else ()
        )
        return VectorLayout(
            (
                weight,
                RealSection("update", self.coordinates, self.clip_value, self.value_bits),
                CountSection("examples", 3, _MAX_EXAMPLES),
                CountSection("loss_q16", 1, _MAX_LOSS_Q16),
                *scores,
            ),
            cohort,
        )


def task_digest(name: str, spec: bytes) -> bytes:
    """Bind a task's terms.

    Args:
        name: resource name of the task.
        spec: deterministic serialisation of its TaskSpec.

    Returns:
        32 bytes.
    """
    return transcript.digest("task", name, spec)


def round_attempt(
    terms: Terms,
    *,
    task_name: str,
    spec: bytes,
    kind: RoundKind,
    number: int,
    attempt: int,
    attempt_nonce: bytes,
    model_digest: bytes,
    invited: int,
) -> Attempt:
    """Build the parameters that every kind of round has, the same way on both sides.

    Args:
        terms: the task's terms.
        task_name: `federations/{federation}/tasks/{task}`.
        spec: deterministic serialisation of the TaskSpec that `terms` come from.
        kind: what the round adds up.
        number: of the round; a statistics round is 0, and only it.
        attempt: at that number, from 1.
        attempt_nonce: 32 bytes, fresh for each attempt.
        model_digest: SHA-256 of the file of the base model.
        invited: clients that were invited; lanes are sized for so many.

    Raises:
        InvalidArgumentError: TASK_NAME_MALFORMED, ROUND_KIND_MISMATCH, LANE_OVERFLOW or what
            `Attempt` refuses.
    """
    match task_name.split("/"):
        case ["federations", federation, "tasks", task] if federation and task:
            pass
        case _:
            raise InvalidArgumentError(
                "TASK_NAME_MALFORMED",
                "a task is named federations/{federation}/tasks/{task}",
            )
    if (kind is RoundKind.STATISTICS) != (number == 0):
        raise InvalidArgumentError(
            "ROUND_KIND_MISMATCH",
            "round 0 is the statistics round and every other one is a training round",
        )
    return Attempt(
        federation=federation,
        task=task,
        round_number=number,
        attempt=attempt,
        attempt_nonce=attempt_nonce,
        model_digest=model_digest,
        task_digest=task_digest(task_name, spec),
        minimum_cohort=terms.minimum_cohort,
        layout=terms.layout(kind, invited),
    )


def round_parameters(attempt: Attempt, masking: Masking) -> RoundParameters:
    """Complete the parameters of a round under masks."""
    return RoundParameters(**vars(attempt), profile=masking.profile, graph=masking.graph)


def encrypted_round_parameters(
    attempt: Attempt, encryption: Encryption, key_digest: bytes
) -> EncryptedRoundParameters:
    """Complete the parameters of an encrypted round.

    Raises:
        InvalidArgumentError: DIGEST_LENGTH, KEY_FEDERATION.
    """
    return EncryptedRoundParameters(
        **vars(attempt),
        key_name=encryption.key_name,
        key_digest=key_digest,
    )


def flatten(terms: Terms, tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Lay tensors one after another in the order of the terms.

    Returns:
        Shape (coordinates,), float64.

    Raises:
        InvalidArgumentError: what `check_tensors` refuses.
    """
    check_tensors(terms, tensors)
    parts = [np.asarray(tensors[t.name], dtype=np.float64).ravel() for t in terms.tensors]
    return np.concatenate(parts)


def unflatten(terms: Terms, vector: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    """Cut a vector of shape (coordinates,) into the tensors of the terms, as float32."""
    cuts = np.cumsum([tensor.size for tensor in terms.tensors])[:-1]
    return {
        tensor.name: part.astype(np.float32).reshape(tensor.shape)
        for tensor, part in zip(terms.tensors, np.split(vector, cuts), strict=True)
    }


def check_tensors(
    terms: Terms, tensors: Mapping[str, NDArray[Any]], *, standardised: bool | None = None
) -> None:
    """Check names, shapes, dtype and finiteness of a model against the terms.

    Args:
        terms: the task's terms.
        tensors: the model's tensors; `standardise.mean` and `standardise.scale` may be among
            them, float32 of shape (numeric_features,).
        standardised: whether those two must be there; None leaves it open.

    Raises:
        InvalidArgumentError: MODEL_TENSORS_MISMATCH, MODEL_SHAPE_MISMATCH, MODEL_DTYPE_MISMATCH
            or VALUE_NOT_FINITE; whoever made the model has to change it.
    """
    shapes = {tensor.name: tensor.shape for tensor in terms.tensors}
    extra = dict.fromkeys((STANDARDISE_MEAN, STANDARDISE_SCALE), (terms.numeric_features,))
    present = extra.keys() & tensors.keys()
    if standardised or (standardised is None and present):
        shapes |= extra
    missing, unknown = shapes.keys() - tensors.keys(), tensors.keys() - shapes.keys()
    if missing or unknown:
        raise InvalidArgumentError(
            "MODEL_TENSORS_MISMATCH",
            "the model's tensors are not those of the task: "
            f"missing {sorted(missing)[:5]}, not expected {sorted(unknown)[:5]}",
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.dtype != np.float32:
            raise InvalidArgumentError(
                "MODEL_DTYPE_MISMATCH", f"tensor {name} is {tensor.dtype}; it must be float32"
            )
        if tensor.shape != shape:
            raise InvalidArgumentError(
                "MODEL_SHAPE_MISMATCH",
                f"tensor {name} has shape {tensor.shape}; the task says {shape}",
            )
        if not np.isfinite(tensor).all():
            raise InvalidArgumentError(
                "VALUE_NOT_FINITE", f"tensor {name} holds a value that is infinite or not a number"
            )


@dataclass(frozen=True)
class LocalMetrics:
    """What one client measured with the round's starting model; it leaves only under the mask.

    Attributes:
        training_examples: rows that it trains on.
        validation_examples: rows that it validates on.
        validation_correct: of those, how many the model gets right.
        validation_loss: sum of the loss over the validation rows.
        scores: shape (2 · score_bins,), the validation rows per bin of predicted probability,
            negatives then positives; of length 0 where the task has no bins.
    """

    training_examples: int
    validation_examples: int
    validation_correct: int
    validation_loss: float
    scores: NDArray[np.uint64]


def score_histogram(
    probabilities: NDArray[Any], positive: NDArray[np.bool_], bins: int
) -> NDArray[np.uint64]:
    """Count predicted probabilities per bin, negatives then positives.

    Args:
        probabilities: shape (n,), within [0, 1].
        positive: shape (n,), whether each example is positive.
        bins: of equal width.

    Returns:
        Shape (2 · bins,), uint64.
    """
    bin_of = np.minimum((np.asarray(probabilities) * bins).astype(np.int64), bins - 1)
    halves = [np.bincount(bin_of[mask], minlength=bins) for mask in (~positive, positive)]
    return np.concatenate(halves).astype(np.uint64)


def area_under_curve(scores: NDArray[np.uint64]) -> float | None:
    """Estimate the area under the ROC curve from a score histogram.

    Two examples in one bin count as a tie (Fawcett 2006, algorithm 3, on the binned scores).

    Args:
        scores: shape (2 · bins,), negatives then positives.

    Returns:
        The area, or None where one of the classes is empty.
    """
    negatives, positives = scores.astype(np.float64).reshape(2, -1)
    pairs = negatives.sum() * positives.sum()
    if not pairs:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / pairs)


def capped_weight(terms: Terms, examples: int) -> int:
    """Weight of a client that trains on so many examples, so that none dominates."""
    return min(examples, terms.weight_cap)


def training_values(
    terms: Terms, update: NDArray[np.float64], metrics: LocalMetrics
) -> dict[str, NDArray[Any]]:
    """Make the values of a training round's sections for `VectorLayout.encode`.

    Args:
        terms: the task's terms.
        update: local minus global parameters, shape (coordinates,).
        metrics: what the client measured; its training examples set its weight.

    Raises:
        InvalidArgumentError: VECTOR_SHAPE or VALUE_NOT_FINITE, the caller's fault.
    """
    if update.shape != (terms.coordinates,):
        raise InvalidArgumentError(
            "VECTOR_SHAPE",
            f"the update has shape {update.shape}; the task says ({terms.coordinates},)",
        )
    if not np.isfinite(update).all() or not np.isfinite(metrics.validation_loss):
        raise InvalidArgumentError(
            "VALUE_NOT_FINITE",
            "the update or the loss is infinite or not a number; lower the learning rate or "
            "check the data",
        )
    weight = capped_weight(terms, metrics.training_examples)
    clipped = clip_norm(update, terms.clip_norm).clip(-terms.clip_value, terms.clip_value)
    loss = min(max(round(metrics.validation_loss * 2**16), 0), _MAX_LOSS_Q16)
    values: dict[str, NDArray[Any]] = {
        "weight": np.array([weight], np.uint64),
        "update": clipped * (weight / terms.weight_cap),
        "examples": np.array(
            [metrics.training_examples, metrics.validation_examples, metrics.validation_correct],
            np.uint64,
        ),
        "loss_q16": np.array([loss], np.uint64),
    }
    if terms.score_bins:
        values["scores"] = metrics.scores
    return values


def statistics_values(terms: Terms, features: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Make the values of a statistics round's sections for `VectorLayout.encode`.

    Args:
        terms: the task's terms.
        features: shape (examples, numeric_features), scaled to [0, 1].

    Raises:
        InvalidArgumentError: VECTOR_SHAPE, the caller's fault.
    """
    if features.ndim != 2 or features.shape[1] != terms.numeric_features or not len(features):
        raise InvalidArgumentError(
            "VECTOR_SHAPE",
            f"the features have shape {features.shape}; the task says "
            f"(examples, {terms.numeric_features}) with at least one example",
        )
    weight = capped_weight(terms, len(features))
    moments = np.concatenate([features.mean(axis=0), np.square(features).mean(axis=0)])
    return {
        "weight": np.array([weight], np.uint64),
        "moments": moments * (weight / terms.weight_cap),
    }


@dataclass(frozen=True)
class RoundMetrics:
    """What is known of a round's clients: sums over all of them.

    Attributes:
        loss: mean over the validation examples; 0 where there are none.
        accuracy: share of them that the starting model gets right; 0 where there are none.
        auc: estimated area under the ROC curve; None without a histogram or with one class.
        training_examples: summed.
        validation_examples: summed.
        total_weight: capped weights, summed.
    """

    loss: float
    accuracy: float
    auc: float | None
    training_examples: int
    validation_examples: int
    total_weight: int


@dataclass(frozen=True)
class TrainingResult:
    """What a training round's sums mean.

    Attributes:
        mean_update: weighted mean of the clients' updates, shape (coordinates,), float64.
        metrics: sums and their quotients.
    """

    mean_update: NDArray[np.float64]
    metrics: RoundMetrics


@dataclass(frozen=True)
class StatisticsResult:
    """What a statistics round's sums mean; of features scaled to [0, 1].

    Attributes:
        mean: shape (numeric_features,), float32.
        scale: standard deviations, likewise; 1 for a feature that is constant.
        metrics: only the total weight is known.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    metrics: RoundMetrics


def training_result(terms: Terms, sums: Mapping[str, NDArray[Any]]) -> TrainingResult:
    """Read a training round's decoded sums.

    Raises:
        StateError: TOTAL_WEIGHT_ZERO, where no client had an example.
    """
    weight = _total_weight(sums)
    training, validation, correct = (int(count) for count in sums["examples"])
    loss = int(sums["loss_q16"][0]) / 2**16
    return TrainingResult(
        mean_update=sums["update"] * (terms.weight_cap / weight),
        metrics=RoundMetrics(
            loss=loss / validation if validation else 0.0,
            accuracy=correct / validation if validation else 0.0,
            auc=area_under_curve(sums["scores"]) if terms.score_bins else None,
            training_examples=training,
            validation_examples=validation,
            total_weight=weight,
        ),
    )


def statistics_result(terms: Terms, sums: Mapping[str, NDArray[Any]]) -> StatisticsResult:
    """Read a statistics round's decoded sums.

    Raises:
        StateError: TOTAL_WEIGHT_ZERO, where no client had an example.
    """
    weight = _total_weight(sums)
    mean, square = (sums["moments"] * (terms.weight_cap / weight)).reshape(2, -1)
    mean = mean.clip(0.0, 1.0)
    variance = square - np.square(mean)
    scale = np.sqrt(np.where(variance < _MIN_VARIANCE, 1.0, variance))
    return StatisticsResult(
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        metrics=RoundMetrics(0.0, 0.0, None, 0, 0, weight),
    )


def _total_weight(sums: Mapping[str, NDArray[Any]]) -> int:
    weight = int(sums["weight"][0])
    if not weight:
        raise StateError(
            "TOTAL_WEIGHT_ZERO",
            "no client of the round had an example to train on; check the clients' data",
        )
    return weight
