"""The layout of a round's vector: named sections packed as lanes into words of Z_{2^64}.

Every value has a lane of its own, wide enough for the sum over the whole cohort, so that adding
words adds all lanes and none runs over into the next. What could overflow is refused here, when
the round is configured, and never wraps. Each section starts at a word of its own; what is left
of its last word, and of each word above its lanes, is zero.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import lanes, transcript
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.masking import MAX_KEYSTREAM_BYTES, WORD_BYTES
from finsecure_crypto.quantisation import clip_norm, rounding_generator
from finsecure_crypto.sections import CountSection, RealSection, Section, out_of_range

__all__ = [
    "CountSection",
    "RealSection",
    "Section",
    "VectorLayout",
    "clip_norm",
    "rounding_generator",
]

Words = NDArray[np.uint64]


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
            if self.lane_bits(section) > lanes.WORD_BITS:
                raise InvalidArgumentError(
                    "LANE_OVERFLOW",
                    f"section {section.name}: {section.value_bits} bits a value, summed over "
                    f"{self.cohort} clients, do not fit into {lanes.WORD_BITS}; lower value_bits, "
                    "the maximum or the cohort",
                )
        if self.words * WORD_BYTES > MAX_KEYSTREAM_BYTES:
            raise _invalid(f"a vector has at most {MAX_KEYSTREAM_BYTES} bytes")

    def lane_bits(self, section: Section) -> int:
        """Bits of one lane: those of a value and ⌈log2 cohort⌉."""
        return section.value_bits + (self.cohort - 1).bit_length()

    @cached_property
    def words(self) -> int:
        """How many words the vector has."""
        return sum(lanes.words_for(s.length, self.lane_bits(s)) for s in self.sections)

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

    def check(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Refuses values that are not those of one client, before anything is encoded.

        Raises:
            InvalidArgumentError: as `encode`.
        """
        if set(values) != {section.name for section in self.sections}:
            raise InvalidArgumentError(
                "VECTOR_SHAPE",
                f"the values are named {', '.join(s.name for s in self.sections)} and no other",
            )
        for section in self.sections:
            section.check(values[section.name])

    def check_contributors(self, contributors: int) -> None:
        """Refuses a number of contributors that the layout is not made for.

        Raises:
            InvalidArgumentError: `CONTRIBUTORS`; the caller's.
        """
        if not 1 <= contributors <= self.cohort:
            raise InvalidArgumentError("CONTRIBUTORS", f"there are 1 to {self.cohort} contributors")

    def encode(self, values: Mapping[str, NDArray[Any]], rng: np.random.Generator) -> Words:
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
        self.check(values)
        words = np.zeros(self.words, np.uint64)
        for section, own in self._parts(words):
            given, width = values[section.name], self.lane_bits(section)
            for tile, part in lanes.tiles(own, width):
                lanes.pack(section.integers(given[part], rng), width, tile)
        return words

    def decode(
        self, total: Words, contributors: int
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
        return {
            section.name: section.decode(sums, contributors)
            for section, sums in self._unpack(total, contributors)
        }

    def decode_integers(
        self, total: Words, contributors: int
    ) -> dict[str, NDArray[np.uint64] | NDArray[np.int64]]:
        """Unpacks a sum as `decode`, but leaves the quantised reals as int64 sums around zero.

        Raises:
            IntegrityError: `SUM_OUT_OF_RANGE`, as `decode`.
            InvalidArgumentError: `VECTOR_SHAPE` or `CONTRIBUTORS`, as `decode`.
        """
        return {
            section.name: section.centre(sums, contributors)
            if isinstance(section, RealSection)
            else section.decode(sums, contributors)
            for section, sums in self._unpack(total, contributors)
        }

    def _unpack(self, total: Words, contributors: int) -> Iterator[tuple[Section, Words]]:
        if total.shape != (self.words,) or total.dtype != np.uint64:
            raise InvalidArgumentError("VECTOR_SHAPE", f"a sum has {self.words} uint64 words")
        self.check_contributors(contributors)
        for section, own in self._parts(total):
            sums = lanes.unpack(own, self.lane_bits(section), section.length)
            if sums is None:
                raise out_of_range(section, contributors)
            yield section, sums

    def _parts(self, words: Words) -> Iterator[tuple[Section, Words]]:
        start = 0
        for section in self.sections:
            end = start + lanes.words_for(section.length, self.lane_bits(section))
            yield section, words[start:end]
            start = end


def _invalid(message: str) -> InvalidArgumentError:
    return InvalidArgumentError("LAYOUT_INVALID", message)
