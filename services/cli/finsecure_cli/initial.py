"""A task's initial model, from a file or built by the user's code in another process."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.numpy
from finsecure_crypto.errors import ConfigurationError, InvalidArgumentError

_BUILD_S = 300.0


@dataclass(frozen=True)
class InitialModel:
    """Version 0 of a global model.

    Attributes:
        content: bytes of the safetensors file.
        tensors: name and shape of each parameter, by name; the order of the update vector.
    """

    content: bytes
    tensors: tuple[tuple[str, tuple[int, ...]], ...]


def read_initial_model(path: Path) -> InitialModel:
    """Read a safetensors file.

    Raises:
        ConfigurationError: MODEL_MISSING.
        InvalidArgumentError: MODEL_MALFORMED; float32 tensors only.
    """
    try:
        content = path.read_bytes()
        arrays = safetensors.numpy.load(content)
    except OSError as error:
        raise ConfigurationError(
            "MODEL_MISSING", f"the model {path} cannot be read: {error.strerror}"
        ) from error
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InvalidArgumentError(
            "MODEL_MALFORMED", f"{path} is no safetensors file ({type(error).__name__})"
        ) from error
    for name, array in arrays.items():
        if array.dtype != "float32":
            raise InvalidArgumentError(
                "MODEL_MALFORMED",
                f"{name} in {path} is {array.dtype}; only float32 can be aggregated",
            )
    return InitialModel(content, tuple((name, arrays[name].shape) for name in sorted(arrays)))


def build_initial_model(factory: str, inputs: int, python_path: Sequence[Path]) -> InitialModel:
    """Let the model's own code build version 0, in a process of its own.

    Args:
        factory: `module:function`; gets the number of inputs, returns what has a `state_dict()`.
        inputs: how many inputs the task's columns make.
        python_path: folders that the module is imported from.

    Raises:
        ConfigurationError: MODEL_FACTORY_FAILED, the model code's fault.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "initial.safetensors"
        command = [sys.executable, "-m", "finsecure_cli.initial_model", factory]
        command += ["--inputs", str(inputs), "--out", str(out)]
        for path in python_path:
            command += ["--python-path", str(path)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_BUILD_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigurationError(
                "MODEL_FACTORY_FAILED", f"{factory} took more than {_BUILD_S:g} s to build a model"
            ) from error
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
            raise ConfigurationError(
                "MODEL_FACTORY_FAILED",
                f"{factory} could not build the initial model: {last}; check [model] factory, "
                "--python-path, and that its packages are installed",
            )
        return read_initial_model(out)
