"""The parameters of the lattice modes: one fixed set each, checked against SEAL's 128-bit tables.

Both work in R_q = Z_q[X]/(X^N + 1) with q a product of primes that are 1 modulo 2N; a key has one
prime more than a ciphertext, which encryption switches away. docs/adr/0007-lattice-modes.md says
why these.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from finsecure_crypto.homomorphic.mode import Mode

HOLDERS = 3
THRESHOLD = 2

# Noise of a key or an encryption: a centred binomial of 21 coins a side, which SEAL draws too.
NOISE_COINS = 21

# Flooding noise is a sum of three uniform integers of this many bits, minus its mean.
SMUDGING_BITS = 59
SMUDGING_MAXIMUM = 3 << (SMUDGING_BITS - 1)


@dataclass(frozen=True)
class Parameters:
    """A ring, what is added to it as noise, and the canonical form of its elements.

    Attributes:
        mode: BGV or CKKS.
        degree: N; also the number of values in a ciphertext.
        primes: of a key; a ciphertext has all but the last.
        noise_factor: noise is a multiple of it: the plaintext modulus t in BGV, 1 in CKKS.
        scale: one unit of a plaintext in CKKS; 1.0 in BGV.
        word_bits: of the word that holds a residue in memory: 32 or 64.
        spare_bits: of each word that no residue uses, and that canonical forms leave out; a
            divisor of `word_bits`.
    """

    mode: Mode
    degree: int
    primes: tuple[int, ...]
    noise_factor: int
    scale: float
    word_bits: int
    spare_bits: int

    @property
    def ciphertext_primes(self) -> tuple[int, ...]:
        """The primes of a ciphertext, a partial decryption and a sum."""
        return self.primes[:-1]

    @property
    def word(self) -> DTypeLike:
        """The dtype of a residue in memory and in a key."""
        return np.dtype(f"<u{self.word_bits // 8}")

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of a ciphertext, and of a partial decryption of one: two polynomials."""
        residue_bits = self.word_bits - self.spare_bits
        return 2 * len(self.ciphertext_primes) * self.degree * residue_bits // 8

    @property
    def key_bytes(self) -> int:
        """Bytes of one polynomial over the primes of a key."""
        return len(self.primes) * self.degree * self.word_bits // 8


# 109 bits at N = 4096, the most that is 128-bit secure there; t is the largest batching prime of 30
# bits, so that 16-bit digits of 16 383 contributors add up without wrapping.
BGV = Parameters(
    Mode.BGV,
    4096,
    (2147295233, 2147352577, 2147377153, 40961),
    noise_factor=1073692673,
    scale=1.0,
    word_bits=32,
    spare_bits=1,
)

# 180 bits of the 218 that are 128-bit secure at N = 8192, which a plain TenSEAL client makes with
# coeff_mod_bit_sizes=[60, 60, 60]. The scale leaves 24 bits above a unit for the sum.
CKKS = Parameters(
    Mode.CKKS,
    8192,
    (1152921504606683137, 1152921504606748673, 1152921504606830593),
    noise_factor=1,
    scale=2.0**96,
    word_bits=64,
    spare_bits=4,
)

OF_MODE = {Mode.BGV: BGV, Mode.CKKS: CKKS}
