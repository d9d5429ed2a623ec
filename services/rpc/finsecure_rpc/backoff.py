"""Waiting longer after each failure, and never in step with others."""

import random

_RANDOM = random.SystemRandom()


class Backoff:
    """Delays that double from `first_s` to `most_s`, each drawn from its upper half."""

    def __init__(self, first_s: float = 0.5, most_s: float = 60.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._failures = 0

    def reset(self) -> None:
        """Start again after a success."""
        self._failures = 0

    def next_s(self) -> float:
        """Seconds to wait after one more failure."""
        ceiling = min(self._most_s, self._first_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return ceiling * (0.5 + 0.5 * _RANDOM.random())


def jittered(seconds: float, fraction: float = 0.1) -> float:
    """Shorten a time by up to a fraction, so that members do not all come at once."""
    return seconds * (1.0 - fraction * _RANDOM.random())
