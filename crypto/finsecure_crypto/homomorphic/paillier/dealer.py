"""A dealer: makes a key and all its shares in one place, and so knows the whole secret.

I. Damgård, M. Jurik, PKC 2001, section 4.1. Whoever runs this could decrypt everything under the
key: run it offline, watched by all trustees, hand each share to its trustee under that trustee's
own public key, and erase the rest; Python cannot erase for certain, so end the process and discard
the machine's memory too. Trustees check their shares with `PaillierShare.check`, which tells a
wrong share and not a curious dealer.
"""

import os
from dataclasses import dataclass, field

import gmpy2
from gmpy2 import mpz

from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.homomorphic.paillier.blinding import SHORT_EXPONENT_BITS
from finsecure_crypto.homomorphic.paillier.integers import uniform
from finsecure_crypto.homomorphic.paillier.key import PaillierKey
from finsecure_crypto.homomorphic.paillier.key_format import MAX_HOLDERS, opens_once
from finsecure_crypto.homomorphic.paillier.modulus import Modulus
from finsecure_crypto.homomorphic.paillier.primes import safe_prime
from finsecure_crypto.homomorphic.paillier.private_key import require_key_bits
from finsecure_crypto.homomorphic.paillier.share import PaillierShare, make_share
from finsecure_crypto.randomness import Randomness


@dataclass(frozen=True)
class Dealt:
    """What a dealer hands out.

    Attributes:
        key: the public key.
        shares: one for each trustee, in the order of their numbers.
    """

    key: PaillierKey
    shares: tuple[PaillierShare, ...] = field(repr=False)


def deal(
    bits: int,
    holders: int = 3,
    threshold: int = 2,
    randomness: Randomness = os.urandom,
    *,
    conservative: bool = False,
) -> Dealt:
    """Makes a key as a dealer; it takes seconds.

    Args:
        bits: of the modulus, 2048 or 3072.
        holders: trustees, 2 to 16.
        threshold: how many of them open a sum: at least 2, and more than half of them.
        randomness: of the primes and the shares.
        conservative: blinds with exponents of half the modulus' length instead of 448 or 512 bits,
            at twice or three times the work, and does without the assumption on short ones.

    Raises:
        InvalidArgumentError: `KEY_SIZE` or `SHARE_THRESHOLD`; the caller's.
    """
    require_key_bits(bits)
    exponent_bits = bits // 2 if conservative else SHORT_EXPONENT_BITS[bits]
    while True:
        p, q = (safe_prime(bits // 2, randomness) for _ in range(2))
        if p != q:
            return _deal(p, q, exponent_bits, holders, threshold, randomness)


def _deal(
    p: mpz, q: mpz, exponent_bits: int, holders: int, threshold: int, randomness: Randomness
) -> Dealt:
    """Shares the key of two distinct safe primes of one size; tests come here with short ones.

    Raises:
        InvalidArgumentError: `SHARE_THRESHOLD`; the caller's.
    """
    if not opens_once(holders, threshold):
        raise InvalidArgumentError(
            "SHARE_THRESHOLD",
            f"{threshold} of {holders} trustees: the threshold is at least 2 and more than half of "
            f"the trustees, who are at most {MAX_HOLDERS}; fewer could open two sums of one round",
        )
    modulus = Modulus(p * q)
    order = (p - 1) // 2 * ((q - 1) // 2)  # p'q', that of the squares mod n
    whole = modulus.n * order
    # 0 mod p'q' takes the blinding away, 1 mod n leaves the plaintext.
    secret = order * gmpy2.invert(order, modulus.n)
    coefficients = [secret, *(uniform(randomness, whole) for _ in range(threshold - 1))]
    secrets = [_evaluate(coefficients, holder, whole) for holder in range(1, holders + 1)]
    bare = PaillierKey(modulus, holders, threshold, exponent_bits, ())
    verification = tuple(
        gmpy2.powmod_sec(bare.verification_base, bare.delta * each, modulus.square)
        for each in secrets
    )
    key = PaillierKey(modulus, holders, threshold, exponent_bits, verification)
    return Dealt(
        key, tuple(make_share(key, holder, each) for holder, each in enumerate(secrets, 1))
    )


def _evaluate(coefficients: list[mpz], point: int, modulus: mpz) -> mpz:
    value = mpz(0)
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % modulus
    return value
