"""How many refusals are recorded: enough to see an attack, too few to fill the disk with it."""

import threading
import time
from collections import Counter
from collections.abc import Callable

from finsecure_rpc.policy import Rate
from finsecure_rpc.rate import RateLimiter

_RATE = Rate(per_second=1.0, burst=60.0)
_MOST_COUNTED = 4096


class RefusalBudget:
    """Lets each caller have so many refusals recorded, and counts the others.

    All callers without a certificate are one: addresses cost an attacker nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._limiter = RateLimiter(_RATE, clock)
        self._lock = threading.Lock()
        self._unrecorded: Counter[str] = Counter()

    def take(self, caller: str) -> int | None:
        """Ask for room for one refusal.

        Returns:
            How many of this caller went unrecorded before it, or None when there is no room.
        """
        with self._lock:  # services ask on the thread of the database, the guard on the loop
            if self._limiter.take(caller):
                if caller in self._unrecorded or len(self._unrecorded) < _MOST_COUNTED:
                    self._unrecorded[caller] += 1
                return None
            return self._unrecorded.pop(caller, 0)
