"""Proof that a contributor knows the plaintexts of its ciphertexts, one for a whole input.

Paillier's ciphertexts are malleable, so without it a contributor could submit a function of others'
ciphertexts, such as what cancels them. The proof is Schnorr's (Journal of Cryptology 4, 1991) for
Paillier's homomorphism, as by R. Cramer, I. Damgård, J. Nielsen, *Multiparty computation from
threshold homomorphic encryption*, EUROCRYPT 2001, and I. Damgård, M. Jurik, PKC 2001, for all
ciphertexts c_j = (1 + n·m_j)·h_s^(a_j) at once: with challenges e_j of 128 bits

    R = (1 + n·u)·h_s^r,   M = u + Σ e_j·m_j mod n,   A = r + Σ e_j·a_j
    (1 + n·M)·h_s^A = R·∏ c_j^(e_j) mod n²

The challenges come from the transcript of everything: key, round or sum, contributor, all
ciphertexts and R (D. Bernhard, O. Pereira, B. Warinschi, ASIACRYPT 2012: with less it would not be
sound here). So a proof is good for one contributor, once. What it shows, and what not, is argued in
docs/protocols/homomorphic.md.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import gmpy2
from gmpy2 import mpz

from finsecure_crypto import transcript
from finsecure_crypto.homomorphic.paillier.integers import (
    from_bytes,
    product_of_powers,
    random_bits,
    to_bytes,
    uniform,
)
from finsecure_crypto.homomorphic.paillier.modulus import Modulus
from finsecure_crypto.randomness import Randomness

_SEED_BYTES = 32
_CHALLENGE_BYTES = 16
_BLOCK = 256  # challenges that are derived at once
_ROUNDING_BITS = 16  # blinding exponents are rounded up to whole digits of at most so many bits
_COUNT_BITS = 32  # an input has fewer than 2^32 ciphertexts
_HIDING_BITS = 128  # how much longer r is than what it hides


def proof_bytes(modulus: Modulus, exponent_bits: int) -> int:
    """Returns the size of a proof, less than that of a ciphertext for each size of a key."""
    return _SEED_BYTES + modulus.bits // 8 + _power_bytes(exponent_bits)


@dataclass(frozen=True)
class Statement:
    """That a contributor knows what its ciphertexts hold.

    Attributes:
        modulus: of the key.
        base: h_s, whose powers blind the ciphertexts.
        exponent_bits: of the blinding exponents, before they are rounded up to whole digits.
        key_digest: of the key, 32 bytes.
        binding: 32 bytes: the round or sum, and the contributor.
    """

    modulus: Modulus
    base: mpz
    exponent_bits: int
    key_digest: bytes
    binding: bytes

    def prove(
        self,
        sha256: bytes,
        plaintexts: Iterable[mpz],
        exponents: Iterable[mpz],
        randomness: Randomness,
    ) -> bytes:
        """Proves the statement.

        Args:
            sha256: of all ciphertexts.
            plaintexts: m_j, in the order of the ciphertexts.
            exponents: a_j, as many.
            randomness: of u, then r.

        Returns:
            The seed of the challenges, 32 bytes, M and A, big-endian; `proof_bytes`.
        """
        n = self.modulus.n
        plaintext = uniform(randomness, n)
        exponent = 1 + random_bits(randomness, _nonce_bits(self.exponent_bits))
        power = gmpy2.powmod_sec(self.base, exponent, self.modulus.square)
        seed = self._seed(sha256, self.modulus.blinded(plaintext, power))
        challenges = _challenges(seed)
        for m, a in zip(plaintexts, exponents, strict=True):
            challenge = next(challenges)
            plaintext += challenge * m
            exponent += challenge * a
        return (
            seed
            + to_bytes(plaintext % n, self.modulus.bits // 8)
            + to_bytes(exponent, _power_bytes(self.exponent_bits))
        )

    def holds(self, runs: Iterable[bytes], proof: bytes) -> bool:
        """Tells whether a proof, which has `proof_bytes`, shows the statement.

        Args:
            runs: all ciphertexts in order; each is checked.
            proof: as `prove` returned.

        Raises:
            IntegrityError: `CIPHERTEXT_MALFORMED`; the contributor's.
        """
        end = _SEED_BYTES + self.modulus.bits // 8
        seed, plaintext = proof[:_SEED_BYTES], from_bytes(proof[_SEED_BYTES:end])
        exponent, square = from_bytes(proof[end:]), self.modulus.square
        challenges, digest, product = _challenges(seed), hashlib.sha256(), mpz(1)
        for run in runs:
            ciphertexts = self.modulus.parse(run)
            digest.update(run)
            powers = list(islice(challenges, len(ciphertexts)))
            product = product * product_of_powers(ciphertexts, powers, square) % square
        if plaintext >= self.modulus.n or exponent >> (_nonce_bits(self.exponent_bits) + 1):
            return False
        power = gmpy2.powmod(self.base, exponent, square) * gmpy2.invert(product, square) % square
        commitment = self.modulus.blinded(plaintext, power)
        return self._seed(digest.digest(), commitment) == seed

    def _seed(self, sha256: bytes, commitment: mpz) -> bytes:
        written = to_bytes(commitment, self.modulus.ciphertext_bytes)
        return transcript.digest(
            "paillier-plaintexts", self.key_digest, self.binding, sha256, written
        )


def _challenges(seed: bytes) -> Iterator[int]:
    """Yields as many challenges of 128 bits as anybody takes."""
    for block in count():
        stream = hashlib.shake_256(
            transcript.encode("paillier-plaintext-challenges", seed, block)
        ).digest(_CHALLENGE_BYTES * _BLOCK)
        for start in range(0, len(stream), _CHALLENGE_BYTES):
            yield int.from_bytes(stream[start : start + _CHALLENGE_BYTES], "big")


def _nonce_bits(exponent_bits: int) -> int:
    hidden = exponent_bits + _ROUNDING_BITS + 8 * _CHALLENGE_BYTES + _COUNT_BITS
    return hidden + _HIDING_BITS


def _power_bytes(exponent_bits: int) -> int:
    return -(-(_nonce_bits(exponent_bits) + 1) // 8)
