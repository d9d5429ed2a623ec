"""Build a task's initial model in a process of its own: `python -m finsecure_cli.initial_model`.

The user's model code runs here and nowhere else in the command line, so the command line itself
never loads PyTorch. Anything whose `state_dict()` holds arrays or tensors will do.
"""

import argparse
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file


def build(factory: str, inputs: int) -> dict[str, NDArray[np.float32]]:
    """Call `module:function` with the number of inputs and return the parameters by name.

    Raises:
        ValueError: a parameter is not a finite float32 array; the model code's fault.
    """
    module, _, function = factory.partition(":")
    state: Mapping[str, object] = getattr(importlib.import_module(module), function)(
        inputs
    ).state_dict()
    arrays = {name: np.array(value) for name, value in state.items()}
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise ValueError(f"parameter {name} is {array.dtype}; only float32 can be aggregated")
        if not np.isfinite(array).all():
            raise ValueError(f"parameter {name} holds NaN or infinity")
    return arrays


def main() -> None:
    """Build the model that the command line names and write it as safetensors."""
    parser = argparse.ArgumentParser(description="Build an initial model.")
    parser.add_argument("factory", help="module:function")
    parser.add_argument("--inputs", type=int, required=True)
    parser.add_argument("--python-path", type=Path, action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sys.path[:0] = [str(folder.resolve()) for folder in options.python_path]
    try:
        save_file(build(options.factory, options.inputs), options.out)
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
