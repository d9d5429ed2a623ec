"""The terms of which a lattice mode's secret is the sum; a trustee holds two of three."""

from dataclasses import dataclass
from typing import Self

from finsecure_crypto.secret import SecretBytes

SEED_BYTES = 32


@dataclass(frozen=True)
class Component:
    """One of the three terms of a secret, and the seed of the noise that floods its products.

    Attributes:
        coefficients: N bytes, each the coefficient plus one; see `sampling.ternary`.
        seed: 32 bytes.
    """

    coefficients: SecretBytes
    seed: SecretBytes

    def serialise(self) -> bytes:
        """Returns the seed and the coefficients."""
        return self.seed.expose() + self.coefficients.expose()

    @classmethod
    def read(cls, data: bytes, degree: int) -> Self | None:
        """Reads what `serialise` wrote; None if it is not that."""
        if len(data) != SEED_BYTES + degree or data[SEED_BYTES:].strip(b"\0\1\2"):
            return None
        return cls(SecretBytes(data[SEED_BYTES:]), SecretBytes(data[:SEED_BYTES]))
