"""The PyTorch trainer; the only module of the client that imports torch.

The model's code is the user's own: a function `module:function` that the configuration allows and
that is imported from the configured folders. It gets the number of inputs and returns a
`torch.nn.Module` that maps float32 (examples, inputs) to one logit for each example.
"""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from finsecure_crypto.errors import (
    ConfigurationError,
    InvalidArgumentError,
    PolicyError,
    StateError,
)
from finsecure_crypto.federation import check_tensors
from numpy.typing import NDArray
from torch import nn

from finsecure_client.data import DataSource, Examples, Split, load
from finsecure_client.terms import FeatureSchema, Task
from finsecure_client.trainer import Assignment, Evaluation, GlobalModel, TrainedModel

_EVALUATION_ROWS = 65536


class TorchTrainer:
    """Trains a binary classifier with PyTorch on one thread.

    Args:
        data: the party's table.
        models: names `module:function` that tasks may ask for; `*` is not a wildcard.
        python_path: folders from which they are imported, before all others.
        optimizer: `adamw` or `sgd`.
        seed: makes training repeatable; None draws a fresh seed each round.
    """

    def __init__(
        self,
        data: DataSource,
        models: frozenset[str],
        *,
        python_path: tuple[Path, ...] = (),
        optimizer: str = "adamw",
        seed: int | None = None,
    ) -> None:
        self._data = data
        self._models = models
        self._python_path = tuple(str(path.resolve()) for path in python_path)
        self._optimizer = optimizer
        self._seed = seed
        self._loaded: tuple[FeatureSchema, Split] | None = None

    def prepare(self, task: Task) -> None:
        """Load the table and build the model once, so that errors show early."""
        _check_state(task, self._build(task))
        self._split(task.schema)

    def numeric_features(self, task: Task) -> NDArray[np.float64]:
        """Return the numeric features of the training examples, scaled to [0, 1]."""
        training = self._split(task.schema).training
        return training.inputs[:, list(training.numeric)].astype(np.float64)

    def train(self, assignment: Assignment) -> TrainedModel:
        """Train the global model by minibatches.

        Raises:
            StateError: TRAINING_DIVERGED, TRAINING_CANCELLED.
        """
        terms = assignment.task.training
        examples = self._split(assignment.task.schema).training
        generator = torch.Generator().manual_seed(self._round_seed(assignment.round_number))
        torch.manual_seed(generator.initial_seed())  # dropout layers draw from the global generator
        module = self._module(assignment)
        module.train()
        inputs, labels = _tensors(examples, assignment.model)
        criterion = _criterion(terms.positive_weight, "mean")
        anchors = [parameter.detach().clone() for parameter in module.parameters()]
        optimizer = self._make_optimizer(module, terms.learning_rate, terms.weight_decay)
        for _ in range(terms.epochs):
            order = torch.randperm(len(labels), generator=generator)
            for batch in torch.split(order, terms.batch_size):
                assignment.check_wanted()
                optimizer.zero_grad(set_to_none=True)
                loss = criterion(_logits(module, inputs[batch]), labels[batch])
                if terms.proximal:
                    loss = loss + terms.proximal / 2 * _distance(module, anchors)
                if not torch.isfinite(loss):
                    raise StateError(
                        "TRAINING_DIVERGED",
                        f"the loss became {loss.item()} in round {assignment.round_number}; ask "
                        "the task's owner for a lower learning rate, and check your data",
                    )
                loss.backward()
                optimizer.step()
        return TrainedModel(_state(module), len(labels))

    def evaluate(self, assignment: Assignment) -> Evaluation:
        """Evaluate the global model on the validation examples."""
        task = assignment.task
        examples = self._split(task.schema).validation
        module = self._module(assignment)
        module.eval()
        inputs, labels = _tensors(examples, assignment.model)
        criterion = _criterion(task.training.positive_weight, "sum")
        loss_sum = 0.0
        probabilities = np.empty(len(labels), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(labels), _EVALUATION_ROWS):
                assignment.check_wanted()
                rows = slice(start, start + _EVALUATION_ROWS)
                logits = _logits(module, inputs[rows])
                loss_sum += float(criterion(logits, labels[rows]))
                probabilities[rows] = torch.sigmoid(logits).numpy()
        return Evaluation.of(probabilities, examples.labels, loss_sum, task.terms.score_bins)

    def _split(self, schema: FeatureSchema) -> Split:
        if self._loaded is None or self._loaded[0] != schema:
            self._loaded = (schema, load(self._data, schema))
        return self._loaded[1]

    def _round_seed(self, round_number: int) -> int:
        if self._seed is None:
            return int.from_bytes(os.urandom(8), "little") >> 1
        return int(np.random.SeedSequence([self._seed, round_number]).generate_state(1)[0])

    def _make_optimizer(
        self, module: nn.Module, learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        if self._optimizer == "sgd":
            return torch.optim.SGD(module.parameters(), learning_rate, weight_decay=weight_decay)
        return torch.optim.AdamW(module.parameters(), learning_rate, weight_decay=weight_decay)

    def _module(self, assignment: Assignment) -> nn.Module:
        module = self._build(assignment.task)
        _check_state(assignment.task, module)
        module.load_state_dict(
            {
                name: torch.from_numpy(array.copy())
                for name, array in assignment.model.tensors.items()
            }
        )
        return module

    def _build(self, task: Task) -> nn.Module:
        torch.set_num_threads(1)  # the party's other work, and repeatable sums
        factory = self._factory(task.factory)
        try:
            module = factory(task.schema.width)
        except Exception as error:
            raise ConfigurationError(
                "MODEL_FACTORY_FAILED",
                f"{task.factory}({task.schema.width}) raised {type(error).__name__}: {error}",
            ) from error
        if not isinstance(module, nn.Module):
            raise ConfigurationError(
                "MODEL_FACTORY_FAILED",
                f"{task.factory} returned {type(module).__name__} instead of a torch.nn.Module",
            )
        return module

    def _factory(self, name: str) -> Callable[[int], object]:
        if name not in self._models:
            raise PolicyError(
                "MODEL_NOT_ALLOWED",
                f"the task's model {name} is not among models in [trainer]; look at its code, then "
                "add it there",
            )
        for folder in reversed(self._python_path):
            if folder not in sys.path:
                sys.path.insert(0, folder)
        module_name, _, function = name.partition(":")
        try:
            factory = getattr(importlib.import_module(module_name), function, None)
        except Exception as error:
            raise ConfigurationError(
                "MODEL_FACTORY_FAILED",
                f"{module_name} cannot be imported ({type(error).__name__}: {error}); check "
                "python_path in [trainer]",
            ) from error
        if not callable(factory):
            raise ConfigurationError(
                "MODEL_FACTORY_FAILED", f"module {module_name} has no function {function}"
            )
        return factory  # type: ignore[no-any-return]


def _check_state(task: Task, module: nn.Module) -> None:
    """Compare the module's state with the tensors that the task agreed on."""
    check_tensors(task.terms, _state(module), standardised=False)


def _state(module: nn.Module) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.detach().numpy().copy() for name, tensor in module.state_dict().items()}


def _tensors(examples: Examples, model: GlobalModel) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = examples.standardised(model.standardisation).inputs
    return torch.from_numpy(inputs), torch.from_numpy(examples.labels.astype(np.float32))


def _criterion(positive_weight: float, reduction: str) -> nn.BCEWithLogitsLoss:
    return nn.BCEWithLogitsLoss(reduction=reduction, pos_weight=torch.tensor(positive_weight))


def _logits(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    outputs = module(inputs)
    if not isinstance(outputs, torch.Tensor) or outputs.numel() != len(inputs):
        shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs)
        raise InvalidArgumentError(
            "PREDICTIONS_INVALID",
            f"the model returns {shape} for {len(inputs)} examples; it must give one logit each",
        )
    return outputs.reshape(-1)


def _distance(module: nn.Module, anchors: list[torch.Tensor]) -> torch.Tensor:
    """Squared distance to the global model (FedProx, Li et al. 2020, equation 2)."""
    return torch.stack(
        [
            (parameter - anchor).square().sum()
            for parameter, anchor in zip(module.parameters(), anchors, strict=True)
        ]
    ).sum()
