"""Score global models on a test set, beside what each bank, or all data in one place, would get.

    python evaluate.py --task task.toml --banks DIR --test test.csv --models DIR --out scores.json

A bank alone, and the central model, train by the same recipe as the federation, for as many
passes over their data, and standardise with their own statistics. It needs PyTorch and
scikit-learn, and all banks' data in one place, so it is for demonstrations only.
"""

import argparse
import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from finsecure.aggregation.v1 import tasks_pb2
from finsecure_cli.convert import task_spec
from finsecure_cli.initial import InitialModel, build_initial_model
from finsecure_cli.task_file import TaskFile
from finsecure_client import convert
from finsecure_client.data import DataSource, Examples, load
from finsecure_client.terms import Task
from finsecure_client.torch_trainer import TorchTrainer
from finsecure_client.trainer import Assignment, GlobalModel, Standardisation
from finsecure_crypto.federation import STANDARDISE_MEAN, STANDARDISE_SCALE
from finsecure_rpc import config
from model import build
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

SEED = 0
# As in the banks' configuration.
VALIDATION_FRACTION = 0.1
OPTIMIZER = "sgd"
# A feature that hardly varies in one bank's data tells it nothing; see finsecure_crypto.federation.
SMALLEST_SCALE = 2.0**-13


def score(model: GlobalModel, examples: Examples) -> float:
    """Return the area under the ROC curve of a model."""
    inputs = examples.standardised(model.standardisation).inputs
    network = build(inputs.shape[1])
    network.load_state_dict(
        {name: torch.from_numpy(array) for name, array in model.tensors.items()}
    )
    with torch.inference_mode():
        logits = network(torch.from_numpy(inputs)).reshape(-1).numpy()
    return float(roc_auc_score(examples.labels, logits))


def train_alone(path: Path, task: Task, initial: GlobalModel, test: Examples) -> float:
    """Train on one table for as many rounds as the task has and score the result."""
    source = DataSource(path, validation_fraction=VALIDATION_FRACTION, seed=SEED)
    trainer = TorchTrainer(source, frozenset({task.factory}), optimizer=OPTIMIZER, seed=SEED)
    features = trainer.numeric_features(task)
    scale = features.std(axis=0)
    own = Standardisation(
        features.mean(axis=0).astype(np.float32),
        np.where(scale > SMALLEST_SCALE, scale, 1.0).astype(np.float32),
    )
    model = replace(initial, standardisation=own)
    for number in range(1, task.rounds + 1):
        trained = trainer.train(Assignment(task, model, number))
        model = replace(model, version=number, tensors=trained.tensors)
    return score(model, test)


def read_global(path: Path, version: int) -> GlobalModel:
    """Read a version of the federation's model, as `finsecure model download` wrote it."""
    tensors = safetensors.numpy.load_file(path)
    standardisation = None
    if STANDARDISE_MEAN in tensors:
        standardisation = Standardisation(
            tensors.pop(STANDARDISE_MEAN), tensors.pop(STANDARDISE_SCALE)
        )
    return GlobalModel(version, b"", tensors, standardisation)


def read_task(path: Path) -> tuple[Task, InitialModel]:
    """Read the task file, and build the model that every training starts from."""
    task_file = config.load(path, TaskFile)
    initial = build_initial_model(
        task_file.model.factory, task_file.inputs, (Path(__file__).parent,)
    )
    message = tasks_pb2.Task(
        name=f"federations/example/tasks/{task_file.name}",
        spec=task_spec("federations/example", task_file, initial.tensors),
    )
    return convert.task(message), initial


def read_test(path: Path, task: Task) -> Examples:
    """Read all rows of the test set."""
    split = load(DataSource(path), task.schema)
    return Examples(
        np.concatenate([split.training.inputs, split.validation.inputs]),
        np.concatenate([split.training.labels, split.validation.labels]),
        split.training.numeric,
    )


def concatenate(paths: list[Path], out: Path) -> Path:
    """Put the tables of all banks into one file."""
    header = paths[0].read_text().splitlines()[0]
    rows = [row for path in paths for row in path.read_text().splitlines()[1:]]
    out.write_text("\n".join([header, *rows]) + "\n")
    return out


def default_rate(labels: NDArray[np.bool_]) -> float:
    """Return the share of loans that went bad."""
    return float(labels.mean())


def main() -> None:
    """Score everything and write a JSON file."""
    parser = argparse.ArgumentParser(description="Score models on the test set.")
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--banks", type=Path, required=True, metavar="DIR")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task, initial_file = read_task(options.task)
    test = read_test(options.test, task)
    initial = GlobalModel(0, b"", safetensors.numpy.load(initial_file.content))
    banks = sorted(options.banks.glob("*.csv"))
    versions = {
        int(found[1]): path
        for path in options.models.glob("*.safetensors")
        if (found := re.search(r"-(\d+)\.safetensors$", path.name))
    }
    with tempfile.TemporaryDirectory() as folder:
        everything = concatenate(banks, Path(folder) / "all.csv")
        central = train_alone(everything, task, initial, test)
    tables = {path.stem: load(DataSource(path), task.schema) for path in banks}
    scores = {
        "test_loans": len(test),
        "test_default_rate": default_rate(test.labels),
        "banks": {
            bank: {
                "loans": len(table.training) + len(table.validation),
                "default_rate": default_rate(
                    np.concatenate([table.training.labels, table.validation.labels])
                ),
                "local_auc": train_alone(options.banks / f"{bank}.csv", task, initial, test),
            }
            for bank, table in tables.items()
        },
        "central_auc": central,
        "federated_auc": {
            str(version): score(read_global(path, version), test)
            for version, path in sorted(versions.items())
        },
    }
    options.out.write_text(json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    main()
