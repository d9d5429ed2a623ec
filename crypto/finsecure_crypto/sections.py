"""The kinds of values that a round's vector can hold: exact counts and quantised reals.

A section turns one client's values into non-negative integers, and sums of such integers back into
sums of values. How the integers travel, side by side in words or each in a slot of a ciphertext, is
not its concern.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import quantisation
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError

MIN_VALUE_BITS = 2
MAX_VALUE_BITS = 40

# Beyond, the scale of the quantisation would leave the range of float64.
_MIN_BOUND, _MAX_BOUND = 2.0**-100, 2.0**100


@dataclass(frozen=True)
class CountSection:
    """Non-negative integers that are summed exactly.

    Attributes:
        name: key of the section in the mappings of `VectorLayout`.
        length: number of values.
        maximum: the largest value that one client may contribute.

    Raises:
        InvalidArgumentError: `LAYOUT_INVALID`; the configuration's.
    """

    name: str
    length: int
    maximum: int

    def __post_init__(self) -> None:
        _check_shape(self.name, self.length)
        if self.maximum < 1:
            raise _invalid(f"section {self.name}: the maximum is at least 1")

    @property
    def value_bits(self) -> int:
        """Bits of one client's value."""
        return self.maximum.bit_length()

    @property
    def highest(self) -> int:
        """The largest integer that one client's lane holds."""
        return self.maximum

    def check(self, values: NDArray[Any]) -> None:
        """Refuses what is not `length` integers from 0 to `maximum`.

        Raises:
            InvalidArgumentError: `VECTOR_SHAPE`, `COUNT_NEGATIVE` or `COUNT_TOO_LARGE`; the
                caller's.
        """
        if values.shape != (self.length,) or values.dtype.kind not in "iu":
            raise InvalidArgumentError(
                "VECTOR_SHAPE", f"section {self.name} has {self.length} integers"
            )
        if values.dtype.kind == "i" and np.any(values < 0):
            raise InvalidArgumentError(
                "COUNT_NEGATIVE", f"section {self.name} holds a negative count"
            )
        if np.any(values.astype(np.uint64, copy=False) > np.uint64(self.maximum)):
            raise InvalidArgumentError(
                "COUNT_TOO_LARGE",
                f"section {self.name} holds a count above its maximum {self.maximum}; raise the "
                "maximum in the task or contribute less",
            )

    def integers(self, values: NDArray[Any], rng: np.random.Generator) -> NDArray[np.uint64]:
        """Returns checked values as they go into their lanes."""
        return values.astype(np.uint64)

    def decode(self, sums: NDArray[np.uint64], contributors: int) -> NDArray[np.uint64]:
        """Returns sums of integers as they are, once checked.

        Raises:
            IntegrityError: `SUM_OUT_OF_RANGE`, as `check_sums`.
        """
        check_sums(self, sums, contributors)
        return sums


@dataclass(frozen=True)
class RealSection:
    """Real numbers in ±bound that are rounded stochastically to `value_bits` and summed.

    Attributes:
        name: key of the section in the mappings of `VectorLayout`.
        length: number of values.
        bound: values are clipped to ±bound; 2^-100 to 2^100.
        value_bits: bits of one client's value, 2 to 40.

    Raises:
        InvalidArgumentError: `LAYOUT_INVALID`; the configuration's.
    """

    name: str
    length: int
    bound: float
    value_bits: int

    def __post_init__(self) -> None:
        _check_shape(self.name, self.length)
        if not _MIN_BOUND <= self.bound <= _MAX_BOUND:  # False for a NaN
            raise _invalid(f"section {self.name}: the bound is between 2^-100 and 2^100")
        if not MIN_VALUE_BITS <= self.value_bits <= MAX_VALUE_BITS:
            raise _invalid(
                f"section {self.name}: value_bits is {MIN_VALUE_BITS} to {MAX_VALUE_BITS}"
            )

    @property
    def highest(self) -> int:
        """The largest integer that one client's lane holds."""
        return 2 * quantisation.offset(self.value_bits)

    def check(self, values: NDArray[Any]) -> None:
        """Refuses what is not `length` finite floating-point numbers.

        Raises:
            InvalidArgumentError: `VECTOR_SHAPE` or `VALUE_NOT_FINITE`; the caller's.
        """
        if values.shape != (self.length,) or values.dtype.kind != "f":
            raise InvalidArgumentError(
                "VECTOR_SHAPE", f"section {self.name} has {self.length} floating-point numbers"
            )
        quantisation.require_finite(values, f"section {self.name}")

    def integers(self, values: NDArray[Any], rng: np.random.Generator) -> NDArray[np.uint64]:
        """Returns checked values as they go into their lanes, with one draw of noise for each."""
        noise = rng.random(values.size)
        return quantisation.quantise(values, self.bound, self.value_bits, noise)

    def centre(self, sums: NDArray[np.uint64], contributors: int) -> NDArray[np.int64]:
        """Removes the offset of each contributor from sums of integers, once checked.

        Raises:
            IntegrityError: `SUM_OUT_OF_RANGE`, as `check_sums`.
        """
        check_sums(self, sums, contributors)
        return sums.astype(np.int64) - contributors * quantisation.offset(self.value_bits)

    def decode(self, sums: NDArray[np.uint64], contributors: int) -> NDArray[np.float64]:
        """Turns sums of integers into sums of reals.

        Raises:
            IntegrityError: `SUM_OUT_OF_RANGE`, as `check_sums`.
        """
        centred = self.centre(sums, contributors)
        return quantisation.dequantise(centred, self.bound, self.value_bits)


Section = CountSection | RealSection


def check_sums(section: Section, sums: NDArray[np.uint64], contributors: int) -> None:
    """Refuses sums of integers that `contributors` valid vectors cannot have.

    Raises:
        IntegrityError: `SUM_OUT_OF_RANGE`; a contributor's, or a protection was not removed.
    """
    if np.any(sums > np.uint64(section.highest * contributors)):
        raise out_of_range(section, contributors)


def out_of_range(section: Section, contributors: int) -> IntegrityError:
    """Makes the error for a sum that no `contributors` valid vectors have."""
    return IntegrityError(
        "SUM_OUT_OF_RANGE",
        f"section {section.name} holds a sum that {contributors} contributors cannot reach: one of "
        "them broke the protocol; drop this round",
    )


def _check_shape(name: str, length: int) -> None:
    if not name:
        raise _invalid("a section has a name")
    if length < 1:
        raise _invalid(f"section {name}: a section has at least one value")


def _invalid(message: str) -> InvalidArgumentError:
    return InvalidArgumentError("LAYOUT_INVALID", message)
