"""How many neighbours, and which threshold, the sparse graph needs (Bell et al., CCS 2020).

Both sides run this search and have to agree to the last bit, so it is done with integers only:
hypergeometric weights are fixed-point numbers that start at 2^256 at the mode and are carried
outwards by their ratio until they vanish. Rounding is off by less than 2^-200 of a probability,
against bounds of about 2^-61.
"""

import math
from fractions import Fraction
from functools import lru_cache

SECURITY_BITS = 40
"""sigma: the secrecy of an honest input fails with probability below 2^-sigma."""
CORRECTNESS_BITS = 20
"""eta: a round within its drop-out bound fails with probability below 2^-eta."""

DENSEST = Fraction(9, 10)
"""Largest k as a share of n; nearer to n the complete graph costs the same and never fails."""

_ONE = 1 << 256


@lru_cache(maxsize=1024)
def search(
    size: int, corrupt_fraction: float, dropout_fraction: float, active: bool
) -> tuple[int, int] | None:
    """Finds the smallest even k that is safe, and its threshold.

    With A = ⌊gamma·n⌋ clients corrupt, B = A + ⌊delta·n⌋ corrupt or gone, and S = ⌈(1 - delta)·n⌉
    left:

    1. the honest clients that are left are connected, but for probability 2^-(sigma+1);
    2. t₁ is the least integer with Pr[Hyp(n, A, k) > t₁] <= 2^-(sigma+1)/n;
    3. t₂ is the largest with Pr[Hyp(n, S, k) < t₂] < 2^-eta/n;
    4. against an active adversary t₁ becomes ⌈(t₁ + k - 1.25)/2⌉;
    5. k is taken when t = max(t₁ + 1, 2) <= t₂.

    Args:
        size: the papers' n.
        corrupt_fraction: the paper's gamma, in [0, 1).
        dropout_fraction: the paper's delta, in [0, 1); gamma + delta < 1.
        active: whether the aggregator may deviate from the protocol.

    Returns:
        k and t, or None where no even k below n - 1 and up to 9n/10 is safe.
    """
    gamma, delta = Fraction(repr(float(corrupt_fraction))), Fraction(repr(float(dropout_fraction)))
    corrupt = math.floor(gamma * size)
    gone = corrupt + math.floor(delta * size)
    left = math.ceil((1 - delta) * size)
    k = _connected(size, gone)
    while k < size - 1 and k <= DENSEST * size:
        low = _least_above(size, corrupt, k)
        if active:
            low = -((5 - 4 * (low + k)) // 8)
        threshold = max(low + 1, 2)
        high = _largest_below(size, left, k)
        if threshold <= high:
            return k, threshold
        # With each neighbour t₂ rises by at most 1, and t never falls; in the active case it rises
        # by at least one half. So no k nearer than this can close the gap.
        gap = threshold - high
        k += 2 * gap if active else gap + gap % 2
    return None


def _connected(size: int, gone: int) -> int:
    """Returns the smallest even k that keeps the honest clients connected (condition 1)."""
    # Rounded up, so that rounding never passes a k that exact arithmetic would refuse.
    probability = _ONE  # that all of k given neighbours are corrupt or gone
    for k in range(size):
        scaled = size * (size - k - 1) * probability << SECURITY_BITS
        if k >= 2 and k % 2 == 0 and scaled < _ONE:
            return k
        probability = max(0, -(-probability * (gone - k) // (size - k)))
    return size


def _least_above(size: int, marked: int, draws: int) -> int:
    """Returns the least t with Pr[Hyp(size, marked, draws) > t] <= 2^-(sigma+1)/size."""
    first, weights = _hypergeometric(size, marked, draws)
    scale, total = size << (SECURITY_BITS + 1), sum(weights)
    tail = 0
    for value in range(first + len(weights) - 1, first - 1, -1):
        tail += weights[value - first]
        if tail * scale > total:
            break
    return value


def _largest_below(size: int, marked: int, draws: int) -> int:
    """Returns the largest t with Pr[Hyp(size, marked, draws) < t] < 2^-eta/size."""
    first, weights = _hypergeometric(size, marked, draws)
    scale, total = size << CORRECTNESS_BITS, sum(weights)
    tail = 0
    for value in range(first, first + len(weights)):
        tail += weights[value - first]
        if tail * scale >= total:
            break
    return value


def _hypergeometric(size: int, marked: int, draws: int) -> tuple[int, list[int]]:
    """Returns the smallest value with any weight, and the weights from there on."""
    mode = (draws + 1) * (marked + 1) // (size + 2)
    above = []
    value, weight = mode, _ONE
    while weight:
        above.append(weight)
        weight = weight * (marked - value) * (draws - value)
        value += 1
        weight //= value * (size - marked - draws + value)
    below = []
    value, weight = mode, _ONE
    while weight and value > 0:
        weight = weight * value * (size - marked - draws + value)
        value -= 1
        weight //= (marked - value) * (draws - value)
        if weight:
            below.append(weight)
    return mode - len(below), below[::-1] + above
