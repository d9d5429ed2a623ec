"""What the tests of the primitives share: their vectors, and replayable random bytes."""

import hashlib
import json
from pathlib import Path

import numpy as np

VECTORS = Path(__file__).parents[1] / "vectors"


def vectors(scheme):
    """Loads the vectors of a scheme: `{"source": …, "valid": […], "invalid": […]}`."""
    return json.loads((VECTORS / scheme / f"{scheme}.json").read_text("utf-8"))


def write_vectors(scheme, content):
    """Writes the vectors of a scheme, in the form that its test compares with."""
    text = json.dumps(content, indent=1) + "\n"
    (VECTORS / scheme / f"{scheme}.json").write_text(text, "utf-8")


def seeded(seed):
    """Makes a random source that returns the same bytes for the same seed: SHAKE-256, in calls."""
    calls = 0

    def randomness(length):
        nonlocal calls
        calls += 1
        return hashlib.shake_256(f"{seed}/{calls}".encode()).digest(length)

    return randomness


def replay(data):
    """Makes a random source that returns successive pieces of the given bytes."""

    def randomness(length):
        nonlocal data
        taken, data = data[:length], data[length:]
        return taken

    return randomness


class FixedNoise:
    """Stands in for the rounding generator with noise that a vector lists."""

    def __init__(self, noise):
        self._noise = list(noise)

    def random(self, count):
        taken, self._noise = self._noise[:count], self._noise[count:]
        return np.array(taken, np.float64)
