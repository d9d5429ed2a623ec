"""What the client needs of a trainer: numpy in, numpy out, no framework.

A trainer sees the party's data and the global model; it never sees the network. Everything that it
returns is checked, weighted, encoded and masked by the client before it leaves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from finsecure_crypto.errors import InvalidArgumentError, StateError
from finsecure_crypto.federation import score_histogram
from numpy.typing import NDArray

from finsecure_client.terms import Task


@dataclass(frozen=True)
class Standardisation:
    """Means and scales of the numeric features over the whole federation.

    Attributes:
        mean: float32, shape (numeric features,), of the features scaled to [0, 1].
        scale: float32, same shape, positive.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class GlobalModel:
    """One verified version of a task's global model.

    Attributes:
        version: from 0.
        sha256: digest of the safetensors file.
        tensors: float32 arrays by name, in the order of the task's tensors.
        standardisation: set once the federation has computed it.
    """

    version: int
    sha256: bytes
    tensors: Mapping[str, NDArray[np.float32]]
    standardisation: Standardisation | None = None


@dataclass(frozen=True)
class Assignment:
    """What one round asks of a trainer.

    Attributes:
        task: the task.
        model: the global model that the round starts from.
        round_number: number of the round within the task.
        cancelled: tells whether the result is no longer wanted; a trainer asks now and then.
    """

    task: Task
    model: GlobalModel
    round_number: int
    cancelled: Callable[[], bool] = lambda: False

    def check_wanted(self) -> None:
        """Stop the work if its result is no longer wanted.

        Raises:
            StateError: TRAINING_CANCELLED.
        """
        if self.cancelled():
            raise StateError("TRAINING_CANCELLED", "the round ended before training was done")


@dataclass(frozen=True)
class TrainedModel:
    """The model after local training, and how many examples it was trained on."""

    tensors: Mapping[str, NDArray[np.float32]]
    examples: int


@dataclass(frozen=True)
class Evaluation:
    """How the global model does on the validation examples, as sums.

    Attributes:
        examples: validation examples.
        correct: of these, how many it gets right at probability 0.5.
        loss_sum: loss summed over them.
        scores: uint64, shape (2 · score bins,): examples by bin of predicted probability,
            negatives then positives.
    """

    examples: int
    correct: int
    loss_sum: float
    scores: NDArray[np.uint64]

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.floating],
        labels: NDArray[np.bool_],
        loss_sum: float,
        bins: int,
    ) -> Self:
        """Sum up predictions.

        Args:
            probabilities: predicted probability of the positive class, shape (examples,).
            labels: whether each example is positive, shape (examples,).
            loss_sum: loss summed over the examples.
            bins: bins of the score histogram, `task.terms.score_bins`; 0 leaves it out.

        Raises:
            InvalidArgumentError: PREDICTIONS_INVALID, the caller's fault.
        """
        if probabilities.shape != labels.shape or probabilities.ndim != 1:
            raise InvalidArgumentError(
                "PREDICTIONS_INVALID",
                f"predictions of shape {probabilities.shape} for labels of shape {labels.shape}; "
                "the model must give one number for each example",
            )
        if not bool(np.all((probabilities >= 0) & (probabilities <= 1))):
            raise InvalidArgumentError(
                "PREDICTIONS_INVALID",
                "a predicted probability is not between 0 and 1; the model may have diverged",
            )
        none = np.zeros(0, dtype=np.uint64)
        return cls(
            examples=len(labels),
            correct=int(np.count_nonzero((probabilities >= 0.5) == labels)),
            loss_sum=loss_sum,
            scores=score_histogram(probabilities, labels, bins) if bins else none,
        )


class Trainer(Protocol):
    """Trains and evaluates at home. Its methods run on one worker thread, one at a time.

    A trainer may raise any `FinSecureError`; the client then leaves the round, tells the aggregator
    only that it left, and shows the error to its own operator.
    """

    def prepare(self, task: Task) -> None:
        """Load what the task needs, so that errors show before the client offers to take part."""

    def numeric_features(self, task: Task) -> NDArray[np.float64]:
        """Return the numeric features of the training examples, scaled to [0, 1].

        Shape (training examples, numeric features). Only their means and mean squares leave, and
        those under the mask.
        """

    def train(self, assignment: Assignment) -> TrainedModel:
        """Train the global model on the training examples."""

    def evaluate(self, assignment: Assignment) -> Evaluation:
        """Evaluate the global model on the validation examples."""
