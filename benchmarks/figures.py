"""One measured figure: its repetitions, their median and spread, and the unit."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A quantity that was measured one or more times.

    Attributes:
        values: one value for each repetition.
        unit: such as `s`, `ms`, `GB/s`; empty for a ratio.
    """

    values: tuple[float, ...]
    unit: str = ""

    @property
    def median(self) -> float:
        """The figure that is quoted."""
        return statistics.median(self.values)

    def to_json(self) -> dict[str, Any]:
        """Returns the figure as it stands in results.json."""
        return {
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "repetitions": len(self.values),
            "unit": self.unit,
        }


class UnavailableError(Exception):
    """What a set of figures needs cannot be had here; the text says why."""


Figures = dict[str, Figure]
Progress = Callable[[str], None]
"""Is told what is being measured."""


def seconds(
    work: Callable[[], object], repetitions: int, clock: Callable[[], float] = time.process_time
) -> tuple[float, ...]:
    """Times some work, by default in CPU seconds of this process, all threads.

    CPU time leaves out what other processes on a shared machine do; `openssl speed` quotes it too.
    """
    taken = []
    for _ in range(repetitions):
        start = clock()
        work()
        taken.append(clock() - start)
    return tuple(taken)
