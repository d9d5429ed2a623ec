"""A trainer that hands out a result that was computed elsewhere."""

from dataclasses import dataclass

import numpy as np
from finsecure_crypto.errors import StateError
from numpy.typing import NDArray

from finsecure_client.terms import Task
from finsecure_client.trainer import Assignment, Evaluation, GlobalModel, TrainedModel


@dataclass
class PreparedTrainer:
    """Gives one prepared result to rounds that start from the model it was computed from.

    Attributes:
        base: the model that was trained from and evaluated.
        trained: the result of the training.
        evaluation: of `base` on the validation examples.
        used: whether a round has taken it.
    """

    base: GlobalModel
    trained: TrainedModel
    evaluation: Evaluation
    used: bool = False

    def prepare(self, task: Task) -> None:
        """Nothing is left to prepare."""

    def numeric_features(self, task: Task) -> NDArray[np.float64]:
        """Refuse: a prepared result has no data."""
        raise StateError("NO_DATA", f"a prepared result cannot take the statistics of {task.name}")

    def evaluate(self, assignment: Assignment) -> Evaluation:
        """Return the evaluation.

        Raises:
            StateError: MODEL_SUPERSEDED, where the round starts from another model.
        """
        self._check(assignment)
        return self.evaluation

    def train(self, assignment: Assignment) -> TrainedModel:
        """Return the trained model; raises as `evaluate`."""
        self._check(assignment)
        self.used = True
        return self.trained

    def _check(self, assignment: Assignment) -> None:
        if assignment.model.sha256 != self.base.sha256:
            raise StateError(
                "MODEL_SUPERSEDED",
                f"the round starts from version {assignment.model.version}, the result was "
                f"computed from version {self.base.version}; train from the newest version",
            )
