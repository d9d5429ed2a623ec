"""Token buckets, one for each caller, in bounded memory."""

from collections import OrderedDict
from collections.abc import Callable

from finsecure_rpc.policy import Rate

_MOST_BUCKETS = 65_536


class RateLimiter:
    """Counts calls by key; the keys that were seen longest ago are forgotten first.

    Args:
        rate: how many calls are fine.
        clock: monotonic seconds.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Take one token; returns 0, or the seconds until there will be one."""
        now = self._clock()
        tokens, since = self._buckets.pop(key, (self._rate.burst, now))
        tokens = min(self._rate.burst, tokens + (now - since) * self._rate.per_second)
        wait = 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._rate.per_second
        self._buckets[key] = (tokens - 1.0 if tokens >= 1.0 else tokens, now)
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return wait
