"""Paillier keys for tests: of primes that are kept, and so known to everybody."""

import json
from functools import lru_cache

from finsecure_crypto.homomorphic.paillier import dealer
from finsecure_crypto.homomorphic.paillier.blinding import SHORT_EXPONENT_BITS
from finsecure_crypto.homomorphic.paillier.private_key import PrivateKey
from gmpy2 import mpz

from tests.support.crypto import VECTORS, seeded

CONTEXT = bytes(range(32))


@lru_cache
def primes(bits):
    """The two safe primes, for tests only, of a modulus of 512, 2048 or 3072 bits."""
    known = json.loads((VECTORS / "paillier" / "primes.json").read_text("utf-8"))
    return tuple(map(mpz, known[str(bits)]))


@lru_cache
def dealt(bits=512, holders=3, threshold=2):
    """A key and its shares; 512 bits are a size that the public interface refuses."""
    exponent_bits = SHORT_EXPONENT_BITS.get(bits, bits // 2)
    randomness = seeded(f"test only {bits} {holders} {threshold}")
    return dealer._deal(*primes(bits), exponent_bits, holders, threshold, randomness)


def private_key(bits=2048):
    """A key in one hand."""
    return PrivateKey.from_primes(*primes(bits))


def partials(key_and_shares, total, holders, context=CONTEXT):
    """The partial decryptions of some holders."""
    key, shares = key_and_shares.key, key_and_shares.shares
    return {holder: shares[holder - 1].partial(key, total, context) for holder in holders}


def opened(key_and_shares, total, holders):
    """The plaintexts of a run as some holders open it."""
    partial = partials(key_and_shares, total, holders)
    return key_and_shares.key.open_integers(total, partial, CONTEXT)
