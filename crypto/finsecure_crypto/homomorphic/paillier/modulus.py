"""A Paillier modulus and what everybody can do with it: check, add and scale ciphertexts.

P. Paillier, *Public-key cryptosystems based on composite degree residuosity classes*, EUROCRYPT
1999, with g = 1 + n: a ciphertext of m is (1 + n·m)·r mod n² for an n-th residue r.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import gmpy2
from gmpy2 import mpz

from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.homomorphic.paillier.integers import (
    from_bytes,
    product_of_powers,
    to_bytes,
    uniform,
)
from finsecure_crypto.randomness import Randomness

KEY_BITS = (2048, 3072)
"""Sizes of a modulus: 112 and 128 bits of security against factoring (NIST SP 800-57, part 1)."""

_WORD_BITS = 64
_SMALL_PRIMES = gmpy2.primorial(2**16)


@dataclass(frozen=True)
class Modulus:
    """A modulus n; `read` checks one that comes from elsewhere.

    Attributes:
        n: product of two primes, which only the holder of the private key, or a dealer, knew.
    """

    n: mpz

    @classmethod
    def read(cls, n: int) -> "Modulus":
        """Checks a modulus as far as it can be without its factors.

        Whether it is the product of two large primes, only its maker knows.

        Raises:
            IntegrityError: `KEY_MALFORMED` for a modulus that has not 2048 or 3072 bits, is prime,
                a power, or has a factor below 2^16; the sender's.
        """
        if n.bit_length() not in KEY_BITS:
            raise malformed(f"the modulus has {n.bit_length()} bits, not {KEY_BITS}")
        return cls(checked_modulus(mpz(n)))

    @property
    def bits(self) -> int:
        """Bits of the modulus."""
        return int(self.n.bit_length())

    @cached_property
    def square(self) -> mpz:
        """n², the modulus of ciphertexts."""
        return self.n * self.n

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of a ciphertext: a big-endian integer below n²."""
        return self.bits // 4

    @property
    def words(self) -> int:
        """How many uint64 words lie side by side in a plaintext, whatever they hold."""
        return (self.bits - 1) // _WORD_BITS

    def parse(self, run: bytes) -> list[mpz]:
        """Reads a run, and refuses what is no ciphertext: outside (0, n²) or not prime to n.

        Raises:
            IntegrityError: `CIPHERTEXT_MALFORMED`; the sender's.
        """
        size = self.ciphertext_bytes
        if not run or len(run) % size:
            raise IntegrityError(
                "CIPHERTEXT_MALFORMED",
                f"{len(run)} bytes are not one or more ciphertexts of {size} bytes",
            )
        ciphertexts = [from_bytes(run[i : i + size]) for i in range(0, len(run), size)]
        together = mpz(1)
        for index, ciphertext in enumerate(ciphertexts):
            if not 0 < ciphertext < self.square:
                raise _not_a_ciphertext(index)
            together = together * (ciphertext % self.n) % self.n
        # One gcd for all: a common factor of one is a common factor of the product.
        if gmpy2.gcd(together, self.n) != 1:
            raise _not_a_ciphertext(
                next(i for i, c in enumerate(ciphertexts) if gmpy2.gcd(c, self.n) != 1)
            )
        return ciphertexts

    def join(self, ciphertexts: Sequence[mpz]) -> bytes:
        """Writes ciphertexts as a run."""
        return b"".join(to_bytes(c, self.ciphertext_bytes) for c in ciphertexts)

    def add(self, first: bytes, second: bytes) -> bytes:
        """Adds the plaintexts of two runs of equal length that `parse` has accepted before.

        Raises:
            InvalidArgumentError: `RUN_LENGTH` for runs of different lengths; the caller's.
        """
        size = self.ciphertext_bytes
        if len(first) != len(second) or len(first) % size:
            raise InvalidArgumentError(
                "RUN_LENGTH", f"runs of {len(first)} and {len(second)} bytes cannot be added"
            )
        return self.join(
            [
                from_bytes(first[i : i + size]) * from_bytes(second[i : i + size]) % self.square
                for i in range(0, len(first), size)
            ]
        )

    def scalar_product(self, run: bytes, weights: Sequence[int]) -> mpz:
        """Computes a ciphertext of Σ weights[j]·m_j, not blinded anew.

        Args:
            run: ciphertexts of m_j.
            weights: as many non-negative integers.

        Raises:
            IntegrityError: `CIPHERTEXT_MALFORMED`; the sender's.
            InvalidArgumentError: `WEIGHTS_INVALID`; the caller's.
        """
        ciphertexts = self.parse(run)
        if len(weights) != len(ciphertexts) or any(weight < 0 for weight in weights):
            raise InvalidArgumentError(
                "WEIGHTS_INVALID",
                f"{len(ciphertexts)} ciphertexts need as many weights, none of them negative",
            )
        return product_of_powers(ciphertexts, weights, self.square)

    def encrypt(self, plaintexts: Sequence[int], randomness: Randomness) -> bytes:
        """Encrypts integers one a ciphertext as Paillier did, with r = u^n for a random u.

        It takes a whole exponentiation each and no assumption on the modulus beyond Paillier's, so
        it suits moduli of other libraries; `PaillierKey` is tens of times as fast.

        Args:
            plaintexts: each from 0 to n - 1.
            randomness: where u comes from.

        Raises:
            InvalidArgumentError: `PLAINTEXT_RANGE`; the caller's.
        """
        return self.join([self.blinded(m, r) for m, r in self._residues(plaintexts, randomness)])

    def blinded(self, plaintext: int, residue: mpz) -> mpz:
        """Computes the ciphertext of a plaintext under a random n-th residue."""
        return (1 + self.n * plaintext) * residue % self.square

    def require_plaintexts(self, plaintexts: Sequence[int]) -> None:
        """Refuses what is no plaintext.

        Raises:
            InvalidArgumentError: `PLAINTEXT_RANGE`; the caller's.
        """
        if not all(0 <= plaintext < self.n for plaintext in plaintexts):
            raise InvalidArgumentError(
                "PLAINTEXT_RANGE", "a plaintext is a non-negative integer below the modulus"
            )

    def _residues(
        self, plaintexts: Sequence[int], randomness: Randomness
    ) -> Iterator[tuple[int, mpz]]:
        self.require_plaintexts(plaintexts)
        for plaintext in plaintexts:
            # A common factor with n would factor it, and comes up once in 2^1023 draws.
            unit = 1 + uniform(randomness, self.n - 1)
            yield plaintext, gmpy2.powmod(unit, self.n, self.square)  # the exponent is public


def checked_modulus(n: mpz) -> mpz:
    """Refuses integers that cannot be the modulus of a key, whatever their size.

    Raises:
        IntegrityError: `KEY_MALFORMED`; the sender's.
    """
    if gmpy2.gcd(n, _SMALL_PRIMES) != 1:
        raise malformed("the modulus has a small factor")
    if gmpy2.is_power(n) or gmpy2.is_prime(n):
        raise malformed("the modulus is a prime or a power")
    return n


def malformed(reason: str) -> IntegrityError:
    """Makes the error for bytes that are no key."""
    return IntegrityError(
        "KEY_MALFORMED", f"this is no Paillier key: {reason}; get it anew from whoever made it"
    )


def _not_a_ciphertext(index: int) -> IntegrityError:
    return IntegrityError(
        "CIPHERTEXT_MALFORMED",
        f"ciphertext {index} of the run is outside (0, n²) or shares a factor with n",
    )
