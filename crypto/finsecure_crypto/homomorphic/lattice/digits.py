"""Integers as digits of 16 bits, one in a slot, whose sums stay apart until they are added up."""

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto.sections import Section, out_of_range

DIGIT_BITS = 16
DIGIT_MAXIMUM = (1 << DIGIT_BITS) - 1

Integers = NDArray[np.uint64]


def count(section: Section) -> int:
    """Returns how many digits an integer of a section has."""
    return -(-section.highest.bit_length() // DIGIT_BITS)


def split(section: Section, integers: Integers) -> Integers:
    """Cuts integers into digits, shape (digits, length), the lowest first."""
    shifts = np.arange(count(section), dtype=np.uint64)[:, None] * np.uint64(DIGIT_BITS)
    return (integers >> shifts) & np.uint64(DIGIT_MAXIMUM)


def join(section: Section, sums: Integers, contributors: int) -> Integers:
    """Adds up sums of digits, shape (digits, length).

    Raises:
        IntegrityError: `SUM_OUT_OF_RANGE` for a digit that `contributors` cannot reach; a
            contributor's.
    """
    total = np.zeros(section.length, np.uint64)
    for place, digits in enumerate(sums):
        highest = min(section.highest >> (place * DIGIT_BITS), DIGIT_MAXIMUM)
        # A layout has lanes of at most 64 bits, so what passes here does not wrap around.
        if np.any(digits > np.uint64(highest * contributors)):
            raise out_of_range(section, contributors)
        total += digits << np.uint64(place * DIGIT_BITS)
    return total
