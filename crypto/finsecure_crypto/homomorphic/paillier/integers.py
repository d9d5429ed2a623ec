"""Big integers: drawn, derived from a label, in bytes, and powers of many of them at once."""

import hashlib
from collections.abc import Sequence

from gmpy2 import mpz

from finsecure_crypto import transcript
from finsecure_crypto.randomness import Randomness, draw


def uniform(randomness: Randomness, bound: mpz) -> mpz:
    """Draws an integer from 0 to bound - 1, uniformly: what is too large is drawn again."""
    bits = (bound - 1).bit_length()
    while True:
        candidate = random_bits(randomness, bits)
        if candidate < bound:
            return candidate


def random_bits(randomness: Randomness, bits: int) -> mpz:
    """Draws an integer below 2^bits: ⌈bits/8⌉ big-endian bytes, the excess high bits cut off."""
    drawn = from_bytes(draw(randomness, -(-bits // 8)))
    return drawn & ((mpz(1) << bits) - 1)


def derive(bound: mpz, label: str, *parts: transcript.Part) -> mpz:
    """Derives an integer below the bound that nobody chose, from labelled parts.

    SHAKE-256 of their transcript, 16 bytes longer than the bound so that the reduction leaves a
    bias below 2^-128.
    """
    size = -(-bound.bit_length() // 8) + 16
    return from_bytes(hashlib.shake_256(transcript.encode(label, *parts)).digest(size)) % bound


def from_bytes(data: bytes) -> mpz:
    """Reads a big-endian integer."""
    return mpz.from_bytes(data, "big")


def to_bytes(value: mpz, size: int) -> bytes:
    """Writes an integer as exactly `size` big-endian bytes."""
    return bytes(value.to_bytes(size, "big"))


def product_of_powers(bases: Sequence[mpz], exponents: Sequence[int], modulus: mpz) -> mpz:
    """Computes ∏ bases[j]^exponents[j] mod modulus, for non-negative, public exponents.

    Pippenger's method: for each window of w bits of the exponents, the bases with the same digit
    meet in a bucket, and ∏ bucket[d]^d takes two products for each d. Nothing in it is constant
    in time, so exponents must not be secret.
    """
    bits = max((exponent.bit_length() for exponent in exponents), default=0)
    width = min(range(1, 13), key=lambda w: -(-bits // w) * (len(bases) + 2 ** (w + 1)))
    result = mpz(1)
    for shift in range((max(bits, 1) - 1) // width * width, -1, -width):
        for _ in range(width):
            result = result * result % modulus
        buckets: dict[int, mpz] = {}
        for base, exponent in zip(bases, exponents, strict=True):
            digit = (exponent >> shift) & (2**width - 1)
            if digit:
                buckets[digit] = buckets[digit] * base % modulus if digit in buckets else base
        running = mpz(1)
        for digit in range(2**width - 1, 0, -1):
            if digit in buckets:
                running = running * buckets[digit] % modulus
            result = result * running % modulus
    return result
