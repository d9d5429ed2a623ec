"""Random polynomials: uniform from a public seed, secret, noise, and noise that floods."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import transcript
from finsecure_crypto.agreement import derive
from finsecure_crypto.homomorphic.lattice.parameters import (
    NOISE_COINS,
    SMUDGING_BITS,
    SMUDGING_MAXIMUM,
)
from finsecure_crypto.homomorphic.lattice.seal_bytes import Residues
from finsecure_crypto.masking import MASK_KEY_BYTES, WORD_BYTES, apply_masks
from finsecure_crypto.randomness import Randomness, draw
from finsecure_crypto.secret import SecretBytes

_COIN_BYTES = 3  # 24 coins, of which three are not looked at
_TERNARY_LIMIT = 252  # the largest multiple of 3 in a byte


def uniform(seed: bytes, degree: int, primes: tuple[int, ...]) -> Residues:
    """Expands a public seed into an element of R_q, shape (primes, N): nobody knows a trapdoor.

    For each prime SHAKE-256 gives little-endian uint64, cut to the bits of the prime; those not
    below it are skipped.
    """
    rows = []
    for prime in primes:
        # More than half of the words are below the prime, so four times N are always enough.
        stream = hashlib.shake_256(transcript.encode("lattice-uniform", seed, prime))
        words = np.frombuffer(stream.digest(4 * degree * WORD_BYTES), "<u8")
        words = words & np.uint64(2 ** prime.bit_length() - 1)
        rows.append(words[words < prime][:degree])
    return np.stack(rows)


def ternary(randomness: Randomness, degree: int) -> SecretBytes:
    """Draws a secret of N coefficients, uniform in {-1, 0, 1}, one byte each, plus one."""
    kept = b""
    while len(kept) < degree:
        drawn = np.frombuffer(draw(randomness, degree), np.uint8)
        kept += (drawn[drawn < _TERNARY_LIMIT] % 3).tobytes()
    return SecretBytes(kept[:degree])


def coefficients(secret: SecretBytes) -> NDArray[np.int64]:
    """Reads what `ternary` drew, shape (N,)."""
    return np.frombuffer(secret.expose(), np.uint8).astype(np.int64) - 1


def noise(randomness: Randomness, degree: int) -> NDArray[np.int64]:
    """Draws N coefficients of a centred binomial distribution, variance 10.5, within ±21."""
    drawn = np.frombuffer(draw(randomness, 2 * _COIN_BYTES * degree), np.uint8)
    coins = drawn.reshape(2, degree, _COIN_BYTES).copy()
    coins[:, :, -1] &= (1 << (NOISE_COINS - 8 * (_COIN_BYTES - 1))) - 1
    heads: NDArray[np.int64] = np.bitwise_count(coins).sum(axis=2, dtype=np.int64)
    difference: NDArray[np.int64] = heads[0] - heads[1]
    return difference


def smudging(seed: SecretBytes, ciphertext_part: bytes, degree: int) -> NDArray[np.int64]:
    """Returns the noise that floods one product of a ciphertext's part with a secret, shape (N,).

    It is a function of the secret seed and of the part alone: whoever holds the seed makes the
    same, and to ask twice gives the same answer instead of an average. Each coefficient is the sum
    of three uniform integers of `SMUDGING_BITS` bits, minus its mean, within ±SMUDGING_MAXIMUM.
    """
    salt = hashlib.sha256(ciphertext_part).digest()
    key = derive(seed, salt, transcript.encode("lattice-smudging"), MASK_KEY_BYTES)
    words = np.zeros(3 * degree, np.uint64)
    apply_masks(words, [(key, +1)])
    words >>= np.uint64(8 * WORD_BYTES - SMUDGING_BITS)
    total: NDArray[np.int64] = words.view(np.int64).reshape(3, degree).sum(axis=0)
    total -= SMUDGING_MAXIMUM
    return total
