import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from finsecure_client.data import DataSource
from finsecure_client.terms import Task
from finsecure_client.torch_trainer import TorchTrainer
from finsecure_client.trainer import Assignment, GlobalModel, Standardisation
from finsecure_crypto.errors import FinSecureError, StateError

from tests.support.client import FACTORY, make_task, rows, write_csv, write_factory

Make = Callable[..., TorchTrainer]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    source = DataSource(write_csv(tmp_path / "t.csv", rows(400)))
    folder = write_factory(tmp_path / "models")

    def build(models: frozenset[str] = frozenset({FACTORY}), **options: object) -> TorchTrainer:
        return TorchTrainer(source, models, python_path=(folder,), **options)  # type: ignore[arg-type]

    return build


def assignment(task: Task, round_number: int = 1, **model: object) -> Assignment:
    zeros = {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in task.terms.tensors}
    given = GlobalModel(0, b"", zeros, **model)  # type: ignore[arg-type]
    return Assignment(task, given, round_number)


def with_training(task: Task, **changes: object) -> Task:
    return replace(task, training=replace(task.training, **changes))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_training_learns_and_keeps_the_shapes(make: Make, optimizer: str) -> None:
    task = with_training(make_task(), epochs=20)
    trainer = make(optimizer=optimizer)
    trainer.prepare(task)
    start = assignment(task)
    trained = trainer.train(start)
    assert trained.examples == 320
    assert {name: array.shape for name, array in trained.tensors.items()} == {
        "weight": (1, 4),
        "bias": (1,),
    }
    before = trainer.evaluate(start)
    after = trainer.evaluate(replace(start, model=GlobalModel(1, b"", trained.tensors, None)))
    assert before.examples == after.examples == 80
    assert after.loss_sum < before.loss_sum
    assert after.correct > before.correct
    assert int(after.scores.sum()) == 80
    assert len(after.scores) == 16


def test_seed_makes_training_repeatable(make: Make) -> None:
    task = make_task()
    first = make(seed=5).train(assignment(task))
    again = make(seed=5).train(assignment(task))
    other_round = make(seed=5).train(assignment(task, round_number=2))
    assert np.array_equal(first.tensors["weight"], again.tensors["weight"])
    assert not np.array_equal(first.tensors["weight"], other_round.tensors["weight"])
    unseeded = [make().train(assignment(task)).tensors["weight"] for _ in range(2)]
    assert not np.array_equal(*unseeded)


def test_one_full_batch_step_of_sgd_is_the_gradient(make: Make) -> None:
    task = with_training(make_task(), batch_size=10_000, positive_weight=3.0)
    trainer = make(optimizer="sgd")
    found = trainer.train(assignment(task)).tensors
    examples = trainer._split(task.schema).training
    labels = examples.labels.astype(np.float64)
    # d/dz of the weighted logistic loss at z = 0.
    slope = np.where(examples.labels, -3.0, 1.0) * 0.5 / len(labels)
    assert found["bias"] == pytest.approx([-0.1 * slope.sum()], rel=1e-4)
    assert found["weight"][0] == pytest.approx(-0.1 * (slope @ examples.inputs), rel=1e-3)


def test_proximal_term_pulls_to_the_global_model(make: Make) -> None:
    free = make(seed=1).train(assignment(with_training(make_task(), epochs=30)))
    held = make(seed=1).train(assignment(with_training(make_task(), epochs=30, proximal=100.0)))
    norm = {
        name: np.linalg.norm(t.tensors["weight"]) for name, t in [("free", free), ("held", held)]
    }
    assert norm["held"] < norm["free"] / 3


def test_standardisation_is_applied(make: Make) -> None:
    task = make_task(features__standardise=True)
    moments = Standardisation(np.array([0.5, 0.9], np.float32), np.array([0.1, 0.1], np.float32))
    plain = make(seed=3).train(assignment(task))
    standard = make(seed=3).train(assignment(task, standardisation=moments))
    assert not np.allclose(plain.tensors["weight"], standard.tensors["weight"])


def test_numeric_features_are_the_training_rows(make: Make) -> None:
    features = make().numeric_features(make_task())
    assert features.shape == (320, 2)
    assert features.dtype == np.float64
    assert features.min() >= 0
    assert features.max() <= 1


def test_divergence_is_said_clearly(make: Make) -> None:
    task = with_training(make_task(), learning_rate=100.0, epochs=50)
    model = {"weight": np.full((1, 4), 3e38, np.float32), "bias": np.zeros(1, np.float32)}
    start = Assignment(task, GlobalModel(0, b"", model), 1)
    with pytest.raises(StateError) as caught:
        make(optimizer="sgd").train(start)
    assert caught.value.code == "TRAINING_DIVERGED"


def test_training_stops_when_it_is_not_wanted(make: Make) -> None:
    start = replace(assignment(make_task()), cancelled=lambda: True)
    for method in (make().train, make().evaluate):
        with pytest.raises(StateError) as caught:
            method(start)
        assert caught.value.code == "TRAINING_CANCELLED"


@pytest.mark.parametrize(
    ("factory", "allowed", "code"),
    [
        ("toy_model:build", "other:build", "MODEL_NOT_ALLOWED"),
        ("toy_model:wrong_shape", None, "MODEL_SHAPE_MISMATCH"),
        ("toy_model:explodes", None, "MODEL_FACTORY_FAILED"),
        ("toy_model:no_module", None, "MODEL_FACTORY_FAILED"),
        ("toy_model:absent", None, "MODEL_FACTORY_FAILED"),
        ("no_such_module:build", None, "MODEL_FACTORY_FAILED"),
    ],
)
def test_bad_factories(make: Make, factory: str, allowed: str | None, code: str) -> None:
    task = make_task(model__factory=factory)
    with pytest.raises(FinSecureError) as caught:
        make(frozenset({allowed or factory})).prepare(task)
    assert caught.value.code == code


def test_state_that_the_task_does_not_know_is_refused(make: Make) -> None:
    task = make_task()
    narrow = replace(task, terms=replace(task.terms, tensors=task.terms.tensors[:1]))
    with pytest.raises(FinSecureError) as caught:
        make().prepare(narrow)
    assert caught.value.code == "MODEL_TENSORS_MISMATCH"


def test_one_thread(make: Make) -> None:
    make().prepare(make_task())
    assert torch.get_num_threads() == 1


def test_torch_is_imported_for_its_trainer_only() -> None:
    script = (
        "import sys, finsecure_client, finsecure_client.main, finsecure_client.daemon\n"
        "assert 'torch' not in sys.modules and 'pyarrow' not in sys.modules\n"
        "import finsecure_client.torch_trainer\n"
        "assert 'torch' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
