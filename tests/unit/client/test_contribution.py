from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from finsecure_client import contribution
from finsecure_client.prepared import PreparedTrainer
from finsecure_client.trainer import Assignment, Evaluation, GlobalModel, TrainedModel
from finsecure_crypto.encoding import rounding_generator
from finsecure_crypto.errors import FinSecureError, StateError
from finsecure_crypto.federation import RoundKind
from numpy.typing import NDArray

from tests.support.client import ConstantTrainer, make_task

TASK = make_task()
LAYOUT = TASK.terms.layout(RoundKind.TRAINING, 3)
BASE = GlobalModel(
    1, b"d" * 32, {"weight": np.ones((1, 4), np.float32), "bias": np.zeros(1, np.float32)}
)
START = Assignment(TASK, BASE, 1)


def encoded(trainer: ConstantTrainer) -> NDArray[np.uint64]:
    return LAYOUT.encode(contribution.training(trainer, START), rounding_generator())


def test_training_is_weighted_clipped_and_encoded() -> None:
    # A step of 5 in five coordinates has norm 11.2: clipped to 10, then each to 2.
    words = encoded(ConstantTrainer(step=5.0, examples=250))
    found = LAYOUT.decode(words, 1)
    assert found["weight"].tolist() == [250]
    assert found["examples"].tolist() == [250, 10, 4]
    assert found["loss_q16"].tolist() == [round(6.5 * 2**16)]
    assert found["update"] == pytest.approx(np.full(5, 2 * 0.25), abs=1e-4)
    assert found["scores"].sum() == 10


def test_weight_is_capped() -> None:
    words = encoded(ConstantTrainer(examples=5000))
    found = LAYOUT.decode(words, 1)
    assert found["weight"].tolist() == [1000]
    assert found["examples"].tolist()[0] == 5000


def test_statistics_are_moments() -> None:
    layout = TASK.terms.layout(RoundKind.STATISTICS, 3)
    values = contribution.statistics(ConstantTrainer(), TASK)
    found = layout.decode(layout.encode(values, rounding_generator()), 1)
    assert found["weight"].tolist() == [100]
    assert found["moments"] * 10 == pytest.approx([0.5, 0.5, 0.25, 0.25], abs=1e-6)


class Bent(ConstantTrainer):
    def __init__(self, bend: Callable[[dict[str, object]], object]) -> None:
        super().__init__()
        self.bend = bend

    def train(self, assignment: Assignment) -> TrainedModel:
        tensors = dict(super().train(assignment).tensors)
        self.bend(tensors)  # type: ignore[arg-type]
        return TrainedModel(tensors, 10)


@pytest.mark.parametrize(
    ("bend", "code"),
    [
        (lambda t: t.pop("bias"), "MODEL_TENSORS_MISMATCH"),
        (lambda t: t.update(extra=t["bias"]), "MODEL_TENSORS_MISMATCH"),
        (lambda t: t.update(bias=np.zeros(2, np.float32)), "MODEL_SHAPE_MISMATCH"),
        (lambda t: t.update(bias=np.zeros(1, np.float64)), "MODEL_DTYPE_MISMATCH"),
        (lambda t: t.update(bias=[0.0]), "MODEL_DTYPE_MISMATCH"),
        (lambda t: t.update(bias=np.full(1, np.nan, np.float32)), "VALUE_NOT_FINITE"),
        (lambda t: t.update(bias=np.full(1, -np.inf, np.float32)), "VALUE_NOT_FINITE"),
    ],
)
def test_bad_weights_are_refused_here(
    bend: Callable[[dict[str, object]], object], code: str
) -> None:
    with pytest.raises(FinSecureError) as caught:
        contribution.training(Bent(bend), START)
    assert caught.value.code == code


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_features_outside_their_bounds(value: float) -> None:
    trainer = ConstantTrainer()
    trainer.numeric_features = lambda task: np.full((3, 2), value)  # type: ignore[method-assign]
    with pytest.raises(FinSecureError) as caught:
        contribution.statistics(trainer, TASK)
    assert caught.value.code == "FEATURES_INVALID"


@pytest.mark.parametrize(
    "predictions",
    [np.array([0.5]), np.array([[0.5, 0.5]]), np.array([0.5, 1.5]), np.array([0.5, np.nan])],
)
def test_bad_predictions(predictions: np.ndarray) -> None:
    with pytest.raises(FinSecureError) as caught:
        Evaluation.of(predictions, np.array([True, False]), 1.0, 4)
    assert caught.value.code == "PREDICTIONS_INVALID"


def test_evaluation_counts() -> None:
    found = Evaluation.of(
        np.array([0.0, 0.3, 0.5, 1.0]), np.array([False, True, False, True]), 1.0, 2
    )
    assert (found.examples, found.correct) == (4, 2)
    assert found.scores.tolist() == [1, 1, 1, 1]
    assert len(Evaluation.of(np.zeros(1), np.array([True]), 1.0, 0).scores) == 0


def test_prepared_result_fits_one_model_only() -> None:
    evaluation = Evaluation.of(np.array([0.9]), np.array([True]), 0.1, 8)
    trainer = PreparedTrainer(BASE, TrainedModel(BASE.tensors, 10), evaluation)
    contribution.training(trainer, START)
    assert trainer.used
    other = replace(START, model=replace(BASE, sha256=b"e" * 32))
    with pytest.raises(StateError) as caught:
        contribution.training(trainer, other)
    assert caught.value.code == "MODEL_SUPERSEDED"
    with pytest.raises(StateError) as caught:
        contribution.statistics(trainer, TASK)
    assert caught.value.code == "NO_DATA"


def test_trainer_that_is_not_wanted_any_more_does_not_train() -> None:
    trainer = ConstantTrainer()
    with pytest.raises(StateError):
        contribution.training(trainer, replace(START, cancelled=lambda: True))
    assert trainer.trained == 0
