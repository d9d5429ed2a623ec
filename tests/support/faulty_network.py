"""An in-memory network that loses, delays, duplicates and reorders, under a clock that it moves."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Faults:
    """How bad the network is.

    Attributes:
        loss: probability that a message is lost.
        duplication: probability that it arrives twice.
        longest_delay: seconds; each copy takes a random part of it, so copies and messages
            overtake each other.
    """

    loss: float = 0.0
    duplication: float = 0.0
    longest_delay: float = 1.0


@dataclass
class Network:
    """Delivers calls in the order of their arrival and moves the clock to each."""

    faults: Faults
    seed: int
    now: float = 0.0
    sent: int = 0
    lost: int = 0
    _queue: list = field(default_factory=list)
    _count: itertools.count = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def send(self, deliver: Callable[[], None]) -> None:
        """Sends a message: calls `deliver` later, once, more often, or never."""
        self.sent += 1
        copies = 2 if self._random.random() < self.faults.duplication else 1
        for _ in range(copies):
            if self._random.random() < self.faults.loss:
                self.lost += 1
                continue
            self.at(self.now + self._random.uniform(0, self.faults.longest_delay), deliver)

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Calls at a time, without faults: somebody's own timer."""
        heapq.heappush(self._queue, (time, next(self._count), call))

    def run(self, until: float) -> None:
        """Runs until nothing is under way or the time is up."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, call = heapq.heappop(self._queue)
            call()
