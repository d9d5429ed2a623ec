"""A whole private key in one hand: a bank's own, or one of another library."""

import os
from dataclasses import dataclass, field
from functools import cached_property

import gmpy2
from gmpy2 import mpz

from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.homomorphic.paillier.integers import from_bytes, to_bytes
from finsecure_crypto.homomorphic.paillier.modulus import KEY_BITS, Modulus, malformed
from finsecure_crypto.homomorphic.paillier.primes import safe_prime
from finsecure_crypto.randomness import Randomness
from finsecure_crypto.secret import SecretBytes


@dataclass(frozen=True)
class PrivateKey:
    """The two primes of a modulus; whoever holds them decrypts alone.

    Never the key of a federation, which exists as shares only.

    Attributes:
        modulus: the public key.
        primes: both, big-endian, bits/16 bytes each, the smaller first.
    """

    modulus: Modulus
    primes: SecretBytes = field(repr=False, compare=False)

    @classmethod
    def from_primes(cls, p: int, q: int) -> "PrivateKey":
        """Makes the key of two primes, as another library has them.

        Raises:
            IntegrityError: `KEY_MALFORMED` for anything but two distinct primes of one size, whose
                product has 2048 or 3072 bits and no factor in common with (p-1)(q-1); whoever made
                them is to blame.
        """
        low, high = sorted((mpz(p), mpz(q)))
        if low < 2 or low == high or not all(gmpy2.is_prime(prime, 40) for prime in (low, high)):
            raise malformed("a private key has two distinct primes")
        n = low * high
        if n.bit_length() not in KEY_BITS or low.bit_length() != high.bit_length():
            raise malformed("two primes of half the bits each make a modulus of 2048 or 3072 bits")
        if gmpy2.gcd(n, (low - 1) * (high - 1)) != 1:
            raise malformed("a prime divides the other less one")
        size = n.bit_length() // 16
        return cls(Modulus(n), SecretBytes(to_bytes(low, size) + to_bytes(high, size)))

    @classmethod
    def generate(cls, bits: int, randomness: Randomness = os.urandom) -> "PrivateKey":
        """Makes a fresh key of safe primes; it takes seconds.

        Raises:
            InvalidArgumentError: `KEY_SIZE`; the caller's.
        """
        require_key_bits(bits)
        p, q = (safe_prime(bits // 2, randomness) for _ in range(2))
        return cls.from_primes(p, q)

    def expose(self) -> tuple[int, int]:
        """Returns the two primes, for another library; the smaller one first."""
        p, q = self._factors
        return int(p), int(q)

    def decrypt(self, run: bytes) -> list[int]:
        """Decrypts each ciphertext of a run to an integer below n.

        Modulo p² and q² apart, and put together by the Chinese remainder theorem (Paillier 1999,
        section 7).

        Raises:
            IntegrityError: `CIPHERTEXT_MALFORMED`; the sender's.
        """
        p, q = self._factors
        ciphertexts = self.modulus.parse(run)
        inverse = gmpy2.invert(p, q)
        plaintexts = []
        for ciphertext in ciphertexts:
            below_p, below_q = (
                self._residue(ciphertext, prime, scale)
                for prime, scale in zip((p, q), self._scales, strict=True)
            )
            plaintexts.append(int(below_p + p * ((below_q - below_p) * inverse % q)))
        return plaintexts

    def _residue(self, ciphertext: mpz, prime: mpz, scale: mpz) -> mpz:
        square = prime * prime
        return _logarithm(gmpy2.powmod_sec(ciphertext % square, prime - 1, square), prime, scale)

    @cached_property
    def _factors(self) -> tuple[mpz, mpz]:
        size = len(self.primes) // 2
        data = self.primes.expose()
        return from_bytes(data[:size]), from_bytes(data[size:])

    @cached_property
    def _scales(self) -> tuple[mpz, ...]:
        """The inverses of L(g^(p-1) mod p²), and of the same for q."""
        generator = self.modulus.n + 1
        return tuple(
            gmpy2.invert(
                _logarithm(gmpy2.powmod(generator, prime - 1, prime * prime), prime, mpz(1)), prime
            )
            for prime in self._factors
        )


def require_key_bits(bits: int) -> None:
    """Refuses other sizes of new keys than 2048 and 3072 bits.

    Raises:
        InvalidArgumentError: `KEY_SIZE`; the caller's.
    """
    if bits not in KEY_BITS:
        raise InvalidArgumentError(
            "KEY_SIZE", f"a Paillier key has 2048 or 3072 bits, not {bits}; shorter ones are unsafe"
        )


def _logarithm(power: mpz, prime: mpz, scale: mpz) -> mpz:
    """Paillier's L, scaled: (power - 1)/prime · scale mod prime."""
    return (power - 1) // prime * scale % prime
