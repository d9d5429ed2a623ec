"""Reals to bounded non-negative integers and back, by unbiased stochastic rounding.

The rounding noise decides which of two neighbouring integers a value becomes. It is seeded from a
cryptographic source so that nobody can predict or steer it, but it is no mask and hides nothing:
secrecy comes from `masking` alone, which is why a fast, non-cryptographic generator may make it.
"""

import math
import os

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.randomness import Randomness, draw

_SEED_BYTES = 32


def rounding_generator(randomness: Randomness = os.urandom) -> np.random.Generator:
    """Makes the generator of rounding noise: PCG64-DXSM with a 256-bit seed, little-endian."""
    seed = int.from_bytes(draw(randomness, _SEED_BYTES), "little")
    return np.random.Generator(np.random.PCG64DXSM(seed))


def clip_norm(vector: NDArray[np.floating], norm: float) -> NDArray[np.floating]:
    """Scales a vector down to an L2 norm of at most `norm`, and leaves a shorter one as it is.

    The result has the dtype of the vector; a float32 result may pass the norm by its rounding.

    Raises:
        InvalidArgumentError: `VALUE_NOT_FINITE` for an infinity or a NaN in the vector,
            `CLIP_NORM` for a norm that is not positive and finite; the caller's.
    """
    if not (math.isfinite(norm) and norm > 0):
        raise InvalidArgumentError("CLIP_NORM", "the norm to clip to is a positive, finite number")
    require_finite(vector, "the vector")
    peak = float(np.max(np.abs(vector), initial=0.0))
    if peak == 0.0:
        return vector
    # Dividing by the peak first keeps the squares of large values from overflowing.
    length = peak * float(np.linalg.norm(vector.astype(np.float64) / peak))
    if length <= norm:
        return vector
    return (vector * (norm / length)).astype(vector.dtype)


def require_finite(values: NDArray[np.floating], name: str) -> None:
    """Refuses values that a sum could not hold.

    Raises:
        InvalidArgumentError: `VALUE_NOT_FINITE` for an infinity or a NaN; the caller's.
    """
    if not np.isfinite(values).all():
        raise InvalidArgumentError(
            "VALUE_NOT_FINITE", f"{name} holds NaN or infinity; the training has diverged"
        )


def offset(value_bits: int) -> int:
    """Returns the integer that stands for zero: the largest z with 2·z < 2^value_bits."""
    return (1 << (value_bits - 1)) - 1


def quantise(
    values: NDArray[np.floating], bound: float, value_bits: int, noise: NDArray[np.float64]
) -> NDArray[np.uint64]:
    """Clips to ±bound and rounds to integers in [0, 2·offset], zero to exactly the offset.

    The result is ⌊v·offset/bound + u⌋ + offset, computed in float64, for noise u in [0, 1): its
    expectation is the value itself.
    """
    zero = offset(value_bits)
    clipped = np.clip(values.astype(np.float64), -bound, bound)
    rounded = np.floor(clipped * (zero / bound) + noise).astype(np.int64)
    # Rounding of the product may carry ±bound one step outwards.
    return (np.clip(rounded, -zero, zero) + zero).astype(np.uint64)


def dequantise(sums: NDArray[np.int64], bound: float, value_bits: int) -> NDArray[np.float64]:
    """Turns integer sums, their offsets removed, into float64 sums of reals."""
    reals: NDArray[np.float64] = sums.astype(np.float64) * (bound / offset(value_bits))
    return reals
