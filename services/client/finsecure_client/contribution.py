"""From what a trainer returns to the values that are protected: checked and weighted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.federation import (
    LocalMetrics,
    check_tensors,
    flatten,
    statistics_values,
    training_values,
)
from numpy.typing import NDArray

from finsecure_client.terms import Task
from finsecure_client.trainer import Assignment, Trainer

Values = dict[str, NDArray[Any]]
"""One client's values by section, as `VectorLayout.encode` takes them."""


def statistics(trainer: Trainer, task: Task) -> Values:
    """Take the moments of the party's numeric features.

    Raises:
        InvalidArgumentError: FEATURES_INVALID or VECTOR_SHAPE; the trainer's fault.
    """
    features = trainer.numeric_features(task)
    if not bool(np.all((features >= 0) & (features <= 1))):
        raise InvalidArgumentError(
            "FEATURES_INVALID",
            "the trainer returned numeric features outside [0, 1]; it must scale them by the "
            "bounds of the task's schema",
        )
    return statistics_values(task.terms, features)


def training(trainer: Trainer, assignment: Assignment) -> Values:
    """Evaluate, train, and weigh the update; all metrics come with it.

    Raises:
        InvalidArgumentError: MODEL_TENSORS_MISMATCH, MODEL_SHAPE_MISMATCH, MODEL_DTYPE_MISMATCH,
            VALUE_NOT_FINITE or TOO_FEW_EXAMPLES; the trainer's fault.
        StateError: TRAINING_CANCELLED.
    """
    terms = assignment.task.terms
    evaluation = trainer.evaluate(assignment)
    assignment.check_wanted()
    trained = trainer.train(assignment)
    assignment.check_wanted()
    if trained.examples < 1:
        raise InvalidArgumentError("TOO_FEW_EXAMPLES", "the trainer trained on no example")
    arrays = _arrays(trained.tensors)
    check_tensors(terms, arrays, standardised=False)
    update = flatten(terms, arrays) - flatten(terms, assignment.model.tensors)
    metrics = LocalMetrics(
        training_examples=trained.examples,
        validation_examples=evaluation.examples,
        validation_correct=evaluation.correct,
        validation_loss=evaluation.loss_sum,
        scores=evaluation.scores,
    )
    return training_values(terms, update, metrics)


def _arrays(tensors: Mapping[str, object]) -> dict[str, NDArray[np.float32]]:
    """Refuse what is no numpy array, so that the checks after it mean what they say."""
    for name, value in tensors.items():
        if not isinstance(value, np.ndarray):
            raise InvalidArgumentError(
                "MODEL_DTYPE_MISMATCH",
                f"the trainer returned {type(value).__name__} for tensor {name}; it must return "
                "numpy arrays of float32",
            )
    return dict(tensors)  # type: ignore[arg-type]
