"""The layout of a round's vector: named sections packed as lanes into words of Z_{2^64}.

Every value has a lane of its own, wide enough for the sum over the whole cohort, so that adding
words adds all lanes and none runs over into the next. What could overflow is refused here, when
the round is configured, and never wraps. The values of a section fill its words from the lowest
lane up; what is left of a section's last word, and of each word above its lanes, is zero.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import quantisation, transcript
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.masking import MAX_KEYSTREAM_BYTES, WORD_BYTES
from finsecure_crypto.quantisation import clip_norm, rounding_generator

__all__ = [
    "CountSection",
    "RealSection",
    "Section",
    "VectorLayout",
    "clip_norm",
    "rounding_generator",
]

WORD_BITS = 64
MIN_VALUE_BITS = 2
MAX_VALUE_BITS = 40

_TILE_WORDS = 2**14


@dataclass(frozen=True)
class CountSection:
    """Non-negative integers that are summed exactly.

    Attributes:
        name: key of the section in the mappings of `VectorLayout`.
        length: number of values.
        maximum: the largest value that one client may contribute.
    """

    name: str
    length: int
    maximum: int

    def __post_init__(self) -> None:
        _check_section(self.name, self.length)
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


@dataclass(frozen=True)
class RealSection:
    """Real numbers in ±bound that are rounded stochastically to `value_bits` and summed.

    Attributes:
        name: key of the section in the mappings of `VectorLayout`.
        length: number of values.
        bound: values are clipped to ±bound.
        value_bits: bits of one client's value, 2 to 40; zero is representable.
    """

    name: str
    length: int
    bound: float
    value_bits: int

    def __post_init__(self) -> None:
        _check_section(self.name, self.length)
        if not (math.isfinite(self.bound) and self.bound > 0):
            raise _invalid(f"section {self.name}: the bound is a positive, finite number")
        if not MIN_VALUE_BITS <= self.value_bits <= MAX_VALUE_BITS:
            raise _invalid(
                f"section {self.name}: value_bits is {MIN_VALUE_BITS} to {MAX_VALUE_BITS}"
            )

    @property
    def highest(self) -> int:
        """The largest integer that one client's lane holds."""
        return 2 * quantisation.offset(self.value_bits)


Section = CountSection | RealSection


@dataclass(frozen=True)
class VectorLayout:
    """How sections lie in a vector that at most `cohort` clients add up.

    Attributes:
        sections: in the order of the vector, with distinct names.
        cohort: the largest number of contributors.

    Raises:
        InvalidArgumentError: `LANE_OVERFLOW` when a lane would need more than 64 bits,
            `LAYOUT_INVALID` for any other impossible layout; both the configuration's.
    """

    sections: tuple[Section, ...]
    cohort: int

    def __post_init__(self) -> None:
        if self.cohort < 1:
            raise _invalid("the cohort has at least one client")
        if not self.sections or len({s.name for s in self.sections}) != len(self.sections):
            raise _invalid("a layout has at least one section, and their names are distinct")
        for section in self.sections:
            if self.lane_bits(section) > WORD_BITS:
                raise InvalidArgumentError(
                    "LANE_OVERFLOW",
                    f"section {section.name}: {section.value_bits} bits a value, summed over "
                    f"{self.cohort} clients, do not fit into {WORD_BITS}; lower value_bits, the "
                    "maximum or the cohort",
                )
        if self.words * WORD_BYTES > MAX_KEYSTREAM_BYTES:
            raise _invalid(f"a vector has at most {MAX_KEYSTREAM_BYTES} bytes")

    def lane_bits(self, section: Section) -> int:
        """Bits of one lane: those of a value and ⌈log2 cohort⌉."""
        return section.value_bits + (self.cohort - 1).bit_length()

    def section_words(self, section: Section) -> int:
        """How many words the section fills."""
        return -(-section.length // (WORD_BITS // self.lane_bits(section)))

    @cached_property
    def words(self) -> int:
        """How many words the vector has."""
        return sum(self.section_words(section) for section in self.sections)

    def digest(self) -> bytes:
        """Returns a digest of the whole layout, 32 bytes, for the context of a round."""
        parts: list[transcript.Part] = [self.cohort]
        for section in self.sections:
            match section:
                case CountSection(name, length, maximum):
                    parts += ["count", name, length, maximum]
                case RealSection(name, length, bound, value_bits):
                    # float.hex is exact, unlike a decimal rendering that two sides might round.
                    parts += ["real", name, length, float(bound).hex(), value_bits]
        return transcript.digest("vector-layout", *parts)

    def encode(
        self, values: Mapping[str, NDArray[Any]], rng: np.random.Generator
    ) -> NDArray[np.uint64]:
        """Packs one client's values into words.

        Args:
            values: for each section, shape (length,): integers for a `CountSection`, float32 or
                float64 for a `RealSection`. Reals are clipped to ±bound.
            rng: rounding noise, from `rounding_generator`; one float64 a real, in order.

        Returns:
            uint64, shape (words,).

        Raises:
            InvalidArgumentError: `VECTOR_SHAPE`, `VALUE_NOT_FINITE`, `COUNT_NEGATIVE` or
                `COUNT_TOO_LARGE`; the caller's.
        """
        if values.keys() != {section.name for section in self.sections}:
            raise InvalidArgumentError(
                "VECTOR_SHAPE",
                f"the values are named {', '.join(s.name for s in self.sections)} and no other",
            )
        for section in self.sections:
            _check_values(section, values[section.name])
        words = np.zeros(self.words, np.uint64)
        start = 0
        for section in self.sections:
            end = start + self.section_words(section)
            _pack(section, self.lane_bits(section), values[section.name], rng, words[start:end])
            start = end
        return words

    def decode(
        self, total: NDArray[np.uint64], contributors: int
    ) -> dict[str, NDArray[np.uint64] | NDArray[np.float64]]:
        """Unpacks a sum of encoded vectors: exact uint64 sums of counts, float64 sums of reals.

        Args:
            total: uint64, shape (words,): the sum of the vectors of `contributors` clients.
            contributors: how many, 1 to `cohort`.

        Raises:
            IntegrityError: `SUM_OUT_OF_RANGE` when no `contributors` valid vectors have this sum:
                a contributor broke the protocol, or a mask was not removed.
            InvalidArgumentError: `VECTOR_SHAPE` or `CONTRIBUTORS`; the caller's.
        """
        decoded: dict[str, NDArray[np.uint64] | NDArray[np.float64]] = {}
        for section, lanes in self._unpack(total, contributors):
            match section:
                case CountSection():
                    decoded[section.name] = lanes
                case RealSection(_, _, bound, value_bits):
                    sums = _without_offsets(lanes, value_bits, contributors)
                    decoded[section.name] = quantisation.dequantise(sums, bound, value_bits)
        return decoded

    def decode_integers(
        self, total: NDArray[np.uint64], contributors: int
    ) -> dict[str, NDArray[np.uint64] | NDArray[np.int64]]:
        """Unpacks a sum as `decode`, but leaves the quantised reals as int64 sums around zero.

        Raises:
            IntegrityError: `SUM_OUT_OF_RANGE`, as `decode`.
            InvalidArgumentError: `VECTOR_SHAPE` or `CONTRIBUTORS`, as `decode`.
        """
        decoded: dict[str, NDArray[np.uint64] | NDArray[np.int64]] = {}
        for section, lanes in self._unpack(total, contributors):
            match section:
                case CountSection():
                    decoded[section.name] = lanes
                case RealSection():
                    decoded[section.name] = _without_offsets(
                        lanes, section.value_bits, contributors
                    )
        return decoded

    def _unpack(
        self, total: NDArray[np.uint64], contributors: int
    ) -> list[tuple[Section, NDArray[np.uint64]]]:
        if total.shape != (self.words,) or total.dtype != np.uint64:
            raise InvalidArgumentError("VECTOR_SHAPE", f"a sum has {self.words} uint64 words")
        if not 1 <= contributors <= self.cohort:
            raise InvalidArgumentError("CONTRIBUTORS", f"there are 1 to {self.cohort} contributors")
        unpacked = []
        start = 0
        for section in self.sections:
            end = start + self.section_words(section)
            lanes = _unpack_lanes(section, self.lane_bits(section), total[start:end], contributors)
            unpacked.append((section, lanes))
            start = end
        return unpacked


def _pack(
    section: Section,
    lane_bits: int,
    values: NDArray[Any],
    rng: np.random.Generator,
    words: NDArray[np.uint64],
) -> None:
    lanes = WORD_BITS // lane_bits
    for start in range(0, words.size, _TILE_WORDS):
        tile = words[start : start + _TILE_WORDS]
        taken = values[start * lanes : (start + tile.size) * lanes]
        match section:
            case CountSection():
                integers = taken.astype(np.uint64)
            case RealSection(_, _, bound, value_bits):
                integers = quantisation.quantise(taken, bound, value_bits, rng.random(taken.size))
        padded = np.zeros(tile.size * lanes, np.uint64)
        padded[: integers.size] = integers
        for lane in range(lanes):
            tile |= padded[lane::lanes] << np.uint64(lane * lane_bits)


def _unpack_lanes(
    section: Section, lane_bits: int, words: NDArray[np.uint64], contributors: int
) -> NDArray[np.uint64]:
    lanes = WORD_BITS // lane_bits
    mask = np.uint64(2**lane_bits - 1)
    unpacked = np.empty(words.size * lanes, np.uint64)
    for lane in range(lanes):
        unpacked[lane::lanes] = (words >> np.uint64(lane * lane_bits)) & mask
    used_bits = lanes * lane_bits
    spare = used_bits < WORD_BITS and bool(np.any(words >> np.uint64(used_bits)))
    padding = bool(np.any(unpacked[section.length :]))
    values = unpacked[: section.length]
    if spare or padding or np.any(values > np.uint64(section.highest * contributors)):
        raise IntegrityError(
            "SUM_OUT_OF_RANGE",
            f"section {section.name} holds a sum that {contributors} contributors cannot reach: "
            "one of them broke the protocol; drop this round",
        )
    return values


def _without_offsets(
    lanes: NDArray[np.uint64], value_bits: int, contributors: int
) -> NDArray[np.int64]:
    return lanes.astype(np.int64) - contributors * quantisation.offset(value_bits)


def _check_values(section: Section, values: NDArray[Any]) -> None:
    kinds = "iu" if isinstance(section, CountSection) else "f"
    if values.shape != (section.length,) or values.dtype.kind not in kinds:
        raise InvalidArgumentError(
            "VECTOR_SHAPE",
            f"section {section.name} has {section.length} "
            + ("integers" if isinstance(section, CountSection) else "floating-point numbers"),
        )
    match section:
        case CountSection():
            if values.dtype.kind == "i" and np.any(values < 0):
                raise InvalidArgumentError(
                    "COUNT_NEGATIVE", f"section {section.name} holds a negative count"
                )
            if np.any(values.astype(np.uint64) > np.uint64(section.maximum)):
                raise InvalidArgumentError(
                    "COUNT_TOO_LARGE",
                    f"section {section.name} holds a count above its maximum {section.maximum}; "
                    "raise the maximum in the task or contribute less",
                )
        case RealSection():
            quantisation.require_finite(values, f"section {section.name}")


def _check_section(name: str, length: int) -> None:
    if not name:
        raise _invalid("a section has a name")
    if length < 1:
        raise _invalid(f"section {name}: a section has at least one value")


def _invalid(message: str) -> InvalidArgumentError:
    return InvalidArgumentError("LAYOUT_INVALID", message)
