"""CKKS: approximate sums of reals (Cheon, Kim, Kim and Song 2017), two in each complex slot.

A real is a fraction of its section's bound, a digit of a count a fraction of 2^16, so that every
slot is within ±1. Reals are not rounded to `value_bits`: they travel as float64. The error of a sum
is bounded below for the worst case, without any assumption on how noise is distributed, and counts
are exact because their digits are rounded to the nearest integer, which is nearer than a half.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.homomorphic.lattice import digits
from finsecure_crypto.homomorphic.lattice.cryptosystem import Cryptosystem
from finsecure_crypto.homomorphic.lattice.keys import LatticeKey, LatticeShare
from finsecure_crypto.homomorphic.lattice.parameters import (
    CKKS,
    HOLDERS,
    NOISE_COINS,
    SMUDGING_MAXIMUM,
)
from finsecure_crypto.homomorphic.scheme import Sums
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.sections import CountSection, RealSection, Section, out_of_range

MAXIMUM_ERROR = 1e-6

_SYSTEM = Cryptosystem(CKKS)

_DIGIT_UNIT = 1 << digits.DIGIT_BITS
_UNIT_ROUNDOFF = 2.0**-53


def bound_error(cohort: int) -> float:
    """Bounds the error of one slot of a sum over a cohort.

    A coefficient that is off by at most e moves a slot by at most N·e. Coefficients are off by
    - the flooding noise of three components;
    - for each contributor, the rounding of the plaintext (1/2) and of what the last prime is
      switched away from: 1/2 in c0, and 1/2 in each coefficient of c1, which meets |s| <= 3; the
      noise of key and encryption, divided by that prime. Twice, since a ciphertext converted from
      TenSEAL is made of two.
    And each float64 transform, one for each contributor and one of the sum, is off by at most
    8·log2(N)·u of the norm of its slots (Higham 2002, theorem 24.2, with some room).
    """
    degree = CKKS.degree
    flooding = HOLDERS * SMUDGING_MAXIMUM
    fresh = 2 * HOLDERS * degree * NOISE_COINS + NOISE_COINS
    contribution = 2 * (1 + HOLDERS * degree / 2 + fresh / CKKS.primes[-1])
    transforms = 2 * cohort * 8 * math.log2(degree) * _UNIT_ROUNDOFF * math.sqrt(degree)
    return degree * (flooding + cohort * contribution) / CKKS.scale + transforms


class CkksKey(LatticeKey):
    """A public key of CKKS: sections one after the other, counts by digits as in BGV."""

    system: ClassVar[Cryptosystem] = _SYSTEM

    def require(self, layout: VectorLayout) -> None:
        """Refuses a cohort whose sums could be further off than `MAXIMUM_ERROR`."""
        # Far below what the modulus holds above the scale: 2^23 units.
        if bound_error(layout.cohort) > MAXIMUM_ERROR:
            raise InvalidArgumentError(
                "ERROR_BOUND",
                f"ckks sums over {layout.cohort} contributors may be off by more than "
                f"{MAXIMUM_ERROR} of the bound; lower the cohort, or choose masks",
            )

    def slots(self, layout: VectorLayout) -> int:
        """Returns a slot for each real and for each digit of each count."""
        return sum(_rows(section) * section.length for section in layout.sections)

    def error_bound(self, layout: VectorLayout) -> float:
        """Returns the error of a sum of reals over the cohort, as a fraction of their bound."""
        self.require(layout)
        return bound_error(layout.cohort)

    def spread(
        self, layout: VectorLayout, values: Mapping[str, NDArray[Any]], rng: np.random.Generator
    ) -> NDArray[Any]:
        """Returns fractions of the bounds, float64 within ±1; no rounding noise is drawn."""
        parts = []
        for section in layout.sections:
            given = values[section.name]
            match section:
                case CountSection():
                    parts.append(digits.split(section, section.integers(given, rng)) / _DIGIT_UNIT)
                case RealSection(bound=bound):
                    parts.append(np.clip(given.astype(np.float64), -bound, bound) / bound)
        return np.concatenate([part.ravel() for part in parts])

    def gather(self, layout: VectorLayout, contributors: int, opened: NDArray[Any]) -> Sums:
        """Turns sums of fractions into sums of values, counts exactly."""
        sums: Sums = {}
        error, start = bound_error(layout.cohort), 0
        for section in layout.sections:
            shape = _rows(section), section.length
            end = start + shape[0] * shape[1]
            fractions = opened[start:end]
            start = end
            if np.any(np.abs(fractions) > contributors + error):
                raise out_of_range(section, contributors)
            match section:
                case CountSection():
                    units = fractions * _DIGIT_UNIT
                    rounded = np.rint(units)
                    if np.any(rounded < 0) or np.any(np.abs(units - rounded) > error * _DIGIT_UNIT):
                        raise out_of_range(section, contributors)
                    whole = rounded.astype(np.uint64).reshape(shape)
                    integers = digits.join(section, whole, contributors)
                    sums[section.name] = section.decode(integers, contributors)
                case RealSection(bound=bound):
                    sums[section.name] = fractions * bound
        if np.any(np.abs(opened[start:]) > error):
            raise out_of_range(layout.sections[-1], contributors)
        return sums


def _rows(section: Section) -> int:
    return digits.count(section) if isinstance(section, CountSection) else 1


def read_key(data: bytes) -> CkksKey:
    """Reads a serialised key; see `registry.load_key`."""
    return CkksKey.read(data)


def read_share(data: SecretBytes) -> LatticeShare:
    """Reads a serialised share; see `registry.load_share`."""
    return LatticeShare.read(_SYSTEM, data)
