"""What the client's tests share: a small task, tables on disk, a trainer without a framework."""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
from finsecure.aggregation.v1 import tasks_pb2
from finsecure_client import convert
from finsecure_client.terms import Task
from finsecure_client.trainer import Assignment, Evaluation, TrainedModel
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray

TASK = "federations/lending/tasks/credit"
FACTORY = "toy_model:build"


def task_message(**changes: object) -> tasks_pb2.Task:
    """A valid task; `changes` set fields of the spec by path, with `__` for dots."""
    message = tasks_pb2.Task(
        name=TASK,
        state=tasks_pb2.TASK_STATE_RUNNING,
        spec=tasks_pb2.TaskSpec(
            model=tasks_pb2.ModelSpec(
                factory=FACTORY,
                tensors=[
                    tasks_pb2.TensorSpec(name="weight", shape=[1, 4]),
                    tasks_pb2.TensorSpec(name="bias", shape=[1]),
                ],
            ),
            features=tasks_pb2.FeatureSchema(
                features=[
                    tasks_pb2.Feature(
                        column="amount",
                        numeric=tasks_pb2.NumericFeature(minimum=0, maximum=100),
                    ),
                    tasks_pb2.Feature(
                        column="grade",
                        categorical=tasks_pb2.CategoricalFeature(values=["A", "B"]),
                    ),
                    tasks_pb2.Feature(
                        column="income",
                        numeric=tasks_pb2.NumericFeature(minimum=0, maximum=1e6, logarithmic=True),
                    ),
                ],
                label="class",
                positive_value="bad",
            ),
            training=tasks_pb2.TrainingSpec(
                epochs=1, batch_size=16, learning_rate=0.1, positive_weight=1
            ),
            rounds=3,
            cohort=tasks_pb2.CohortSpec(minimum=3, maximum=10, weight_cap=1000),
            security=tasks_pb2.SecuritySpec(profile=tasks_pb2.SECURITY_PROFILE_ACTIVE),
            encoding=tasks_pb2.EncodingSpec(
                value_bits=16, clip_norm=10, clip_value=2, score_bins=8
            ),
            server_optimizer=tasks_pb2.ServerOptimizerSpec(
                kind=tasks_pb2.SERVER_OPTIMIZER_AVERAGE, learning_rate=1
            ),
            deadlines=tasks_pb2.DeadlineSpec(
                **{
                    name: Duration(seconds=60)
                    for name in (
                        "advertise_keys",
                        "share_keys",
                        "submit_input",
                        "confirm_survivors",
                        "reveal_shares",
                    )
                }
            ),
        ),
    )
    for path, value in changes.items():
        place: object = message.spec
        *parents, last = path.split("__")
        for parent in parents:
            place = getattr(place, parent)
        setattr(place, last, value)
    return message


def make_task(**changes: object) -> Task:
    return convert.task(task_message(**changes))


def rows(count: int = 100, seed: int = 0) -> list[list[object]]:
    """A table whose label depends on the amount."""
    rng = np.random.default_rng(seed)
    table: list[list[object]] = [["id", "amount", "grade", "income", "class"]]
    for number in range(count):
        amount = round(float(rng.uniform(0, 100)), 2)
        label = "bad" if amount + rng.normal(0, 10) > 60 else "good"
        grade = str(rng.choice(["A", "B", "C"]))
        table.append([number, amount, grade, round(float(rng.uniform(0, 1e6)), 2), label])
    return table


def write_csv(path: Path, table: list[list[object]]) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="") as stream:
        csv.writer(stream).writerows(table)
    return path


def write_factory(folder: Path) -> Path:
    """A module with the model of the task."""
    folder.mkdir(exist_ok=True)
    (folder / "toy_model.py").write_text(
        "import torch\n"
        "def build(inputs):\n"
        "    return torch.nn.Linear(inputs, 1)\n"
        "def wrong_shape(inputs):\n"
        "    return torch.nn.Linear(inputs, 2)\n"
        "def explodes(inputs):\n"
        "    raise RuntimeError('no model today')\n"
        "def no_module(inputs):\n"
        "    return 3\n"
    )
    return folder


class ConstantTrainer:
    """Moves every parameter by a fixed step; needs no data and no framework."""

    def __init__(
        self,
        step: float = 0.25,
        examples: int = 100,
        hook: Callable[[Assignment], None] = lambda assignment: None,
    ) -> None:
        self.step = step
        self.examples = examples
        self.hook = hook
        self.trained = 0

    def prepare(self, task: Task) -> None:
        pass

    def numeric_features(self, task: Task) -> NDArray[np.float64]:
        return np.full((self.examples, task.terms.numeric_features), 0.5)

    def train(self, assignment: Assignment) -> TrainedModel:
        self.hook(assignment)
        self.trained += 1
        moved = {
            name: array + np.float32(self.step) for name, array in assignment.model.tensors.items()
        }
        return TrainedModel(moved, self.examples)

    def evaluate(self, assignment: Assignment) -> Evaluation:
        labels = np.arange(10) % 2 == 0
        probabilities = np.linspace(0, 1, 10, dtype=np.float32)
        return Evaluation.of(probabilities, labels, 6.5, assignment.task.terms.score_bins)
