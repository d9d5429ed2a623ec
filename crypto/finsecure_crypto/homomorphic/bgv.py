"""BGV: exact sums of integers (Brakerski, Gentry and Vaikuntanathan 2012), one digit in a slot."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.homomorphic.lattice import digits
from finsecure_crypto.homomorphic.lattice.cryptosystem import Cryptosystem
from finsecure_crypto.homomorphic.lattice.keys import LatticeKey, LatticeShare
from finsecure_crypto.homomorphic.lattice.parameters import BGV
from finsecure_crypto.homomorphic.scheme import Sums
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.sections import out_of_range

_SYSTEM = Cryptosystem(BGV)

# The sum of a digit stays below the plaintext modulus.
MAXIMUM_COHORT = (BGV.noise_factor - 1) // digits.DIGIT_MAXIMUM


class BgvKey(LatticeKey):
    """A public key of BGV: sections one after the other, in each all lowest digits first."""

    system: ClassVar[Cryptosystem] = _SYSTEM

    def require(self, layout: VectorLayout) -> None:
        """Refuses a cohort whose sums would wrap around."""
        if layout.cohort > MAXIMUM_COHORT:
            raise InvalidArgumentError(
                "COHORT_TOO_LARGE",
                f"bgv sums exactly over at most {MAXIMUM_COHORT} contributors; lower the cohort, "
                "or choose masks",
            )

    def slots(self, layout: VectorLayout) -> int:
        """Returns a slot for each digit of each value."""
        return sum(digits.count(section) * section.length for section in layout.sections)

    def error_bound(self, layout: VectorLayout) -> float:
        """Returns 0.0: the sums are exact."""
        self.require(layout)
        return 0.0

    def spread(
        self, layout: VectorLayout, values: Mapping[str, NDArray[Any]], rng: np.random.Generator
    ) -> NDArray[Any]:
        """Returns the digits of the values, uint64."""
        return np.concatenate(
            [
                digits.split(section, section.integers(values[section.name], rng)).ravel()
                for section in layout.sections
            ]
        )

    def gather(self, layout: VectorLayout, contributors: int, opened: NDArray[Any]) -> Sums:
        """Adds up the digits' sums and decodes them as `VectorLayout.decode` does."""
        sums: Sums = {}
        start = 0
        for section in layout.sections:
            shape = digits.count(section), section.length
            end = start + shape[0] * shape[1]
            integers = digits.join(section, opened[start:end].reshape(shape), contributors)
            sums[section.name] = section.decode(integers, contributors)
            start = end
        if np.any(opened[start:]):
            raise out_of_range(layout.sections[-1], contributors)
        return sums


def read_key(data: bytes) -> BgvKey:
    """Reads a serialised key; see `registry.load_key`."""
    return BgvKey.read(data)


def read_share(data: SecretBytes) -> LatticeShare:
    """Reads a serialised share; see `registry.load_share`."""
    return LatticeShare.read(_SYSTEM, data)
