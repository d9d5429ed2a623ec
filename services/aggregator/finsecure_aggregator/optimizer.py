"""How the mean update moves the global model (Reddi et al., Adaptive Federated Optimization, 2021).

A step is a pure function of the parameters, the mean update and the state; the state is kept
beside the model version that it belongs to, so a repeated step after a crash gives the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
State = Mapping[str, Vector]


class OptimizerKind(Enum):
    """Which server optimiser."""

    AVERAGE = "average"
    MOMENTUM = "momentum"
    ADAM = "adam"


@dataclass(frozen=True)
class Optimizer:
    """A server optimiser and its parameters.

    Attributes:
        kind: which.
        learning_rate: the server's.
        beta1: momentum, or FedAdam's first decay.
        beta2: FedAdam's second decay.
        tau: FedAdam's degree of adaptivity.
    """

    kind: OptimizerKind
    learning_rate: float
    beta1: float = 0.0
    beta2: float = 0.0
    tau: float = 0.0

    def initial_state(self, size: int) -> dict[str, Vector]:
        """State before the first step, for vectors of shape (size,)."""
        match self.kind:
            case OptimizerKind.AVERAGE:
                return {}
            case OptimizerKind.MOMENTUM:
                return {"m": np.zeros(size)}
            case OptimizerKind.ADAM:
                # Algorithm 2 of the paper asks for v₋₁ ≥ τ².
                return {"m": np.zeros(size), "v": np.full(size, self.tau**2)}

    def step(
        self, parameters: Vector, mean_update: Vector, state: State
    ) -> tuple[Vector, dict[str, Vector]]:
        """Apply one round's mean update.

        Args:
            parameters: shape (size,), float64.
            mean_update: the paper's Δ, likewise.
            state: of the step before, or `initial_state`; not changed.

        Returns:
            The new parameters and the new state.
        """
        match self.kind:
            case OptimizerKind.AVERAGE:
                return parameters + self.learning_rate * mean_update, {}
            case OptimizerKind.MOMENTUM:
                m = self.beta1 * state["m"] + mean_update
                return parameters + self.learning_rate * m, {"m": m}
            case OptimizerKind.ADAM:
                m = self.beta1 * state["m"] + (1 - self.beta1) * mean_update
                v = self.beta2 * state["v"] + (1 - self.beta2) * np.square(mean_update)
                moved = parameters + self.learning_rate * m / (np.sqrt(v) + self.tau)
                return moved, {"m": m, "v": v}
