"""Safe primes, found by sieving both a candidate and its double at once."""

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from finsecure_crypto.homomorphic.paillier.integers import random_bits
from finsecure_crypto.randomness import Randomness

_SIEVE_BOUND = 2**20
_SPAN = 2**16  # candidates of one random start
_ROUNDS = 40  # Miller-Rabin, on top of Baillie-PSW: an error below 2^-80 for any number


def safe_prime(bits: int, randomness: Randomness) -> mpz:
    """Finds a prime p = 2·p' + 1 with p' prime and the two highest bits set.

    Candidates for p' follow a random start at a distance of 6, as by FIPS 186-5, appendix A.1.6,
    with one difference: a start serves for 2^16 candidates.

    Args:
        bits: of p.
        randomness: where the starts come from.
    """
    primes = _odd_primes(_SIEVE_BOUND)
    while True:
        start = random_bits(randomness, bits - 1) | (mpz(3) << (bits - 3))
        start += (5 - start) % 6  # p' = 5 mod 6: neither p' nor p is divisible by 2 or 3
        for index in np.flatnonzero(_survivors(start, primes)).tolist():
            half = start + 6 * index
            prime = 2 * half + 1
            # The cheap test of either sorts nearly all out.
            if not (gmpy2.is_strong_prp(half, 2) and gmpy2.is_strong_prp(prime, 2)):
                continue
            if prime.bit_length() != bits:
                break
            if gmpy2.is_prime(half, _ROUNDS) and gmpy2.is_prime(prime, _ROUNDS):
                return prime


def _survivors(start: mpz, primes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tells which of start + 6·i have no small factor, nor their doubles plus one."""
    alive = np.ones(_SPAN, bool)
    for prime in primes.tolist():
        sixth = pow(6, -1, prime)
        residue = int(start % prime)
        alive[-residue * sixth % prime :: prime] = False  # divides start + 6i
        alive[((prime - 1) // 2 - residue) * sixth % prime :: prime] = False  # divides 2(…) + 1
    return alive


def _odd_primes(bound: int) -> NDArray[np.int64]:
    """Returns the primes from 5 up to the bound."""
    sieve = np.ones(bound, bool)
    sieve[:5] = False
    sieve[4::2] = False
    sieve[6::3] = False
    for number in range(5, int(bound**0.5) + 1, 2):
        if sieve[number]:
            sieve[number * number :: number] = False
    return np.flatnonzero(sieve)
