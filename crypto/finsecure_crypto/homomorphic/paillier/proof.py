"""Proofs that a trustee's partial decryptions are right, one for a whole run.

D. Chaum, T. Pedersen, *Wallet databases with observers*, CRYPTO 1992, in the squares mod n² as by
V. Shoup, *Practical threshold signatures*, EUROCRYPT 2000, and I. Damgård, M. Jurik, PKC 2001,
section 4.1: p = c^(2Δs) is proven by log_(c⁴) p² = log_v v_i = Δs. For a run, c and p are products
of the run's ciphertexts and partials with random weights of 128 bits (M. Bellare, J. Garay,
T. Rabin, *Fast batch verification*, EUROCRYPT 1998): the order of the squares has no prime factor
below 2^128, so one wrong partial passes with probability 2^-128. Weights and challenge come from
the transcript (Fiat-Shamir), which has the key, the holder, the request and all partials in it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import gmpy2
from gmpy2 import mpz

from finsecure_crypto import transcript
from finsecure_crypto.homomorphic.paillier.integers import (
    from_bytes,
    product_of_powers,
    random_bits,
    to_bytes,
)
from finsecure_crypto.homomorphic.paillier.modulus import Modulus
from finsecure_crypto.randomness import Randomness

_CHALLENGE_BYTES = 32
_WEIGHT_BYTES = 16
_HIDING_BITS = 128  # how much longer the nonce is than what it hides


@dataclass(frozen=True)
class Statement:
    """That a holder's partials of a run have the exponent of its verification key.

    Attributes:
        modulus: of the key.
        base: v, the base of the verification keys.
        verification: v_i = v^(Δs), of this holder.
        exponent_bits: Δs is below 2^exponent_bits.
        seed: 32 bytes: key, holder, request, run and partials.
        ciphertexts: the run.
        partials: as many.
    """

    modulus: Modulus
    base: mpz
    verification: mpz
    exponent_bits: int
    seed: bytes
    ciphertexts: Sequence[mpz]
    partials: Sequence[mpz]

    def combined(self) -> tuple[mpz, mpz]:
        """Returns (∏ c^weight)⁴ and (∏ p^weight)², whose logarithm is Δs too."""
        square = self.modulus.square
        stream = hashlib.shake_256(transcript.encode("paillier-batch-weights", self.seed)).digest(
            _WEIGHT_BYTES * len(self.ciphertexts)
        )
        weights = [
            int.from_bytes(stream[i : i + _WEIGHT_BYTES], "big")
            for i in range(0, len(stream), _WEIGHT_BYTES)
        ]
        ciphertext = product_of_powers(self.ciphertexts, weights, square)
        partial = product_of_powers(self.partials, weights, square)
        return gmpy2.powmod(ciphertext, 4, square), partial * partial % square

    def challenge(self, first: mpz, second: mpz) -> bytes:
        """Returns the challenge after the commitments v^r and (∏ c^weight)^(4r), 32 bytes."""
        size = self.modulus.ciphertext_bytes
        return transcript.digest(
            "paillier-partial", self.seed, to_bytes(first, size), to_bytes(second, size)
        )


def seed(key_digest: bytes, holder: int, context: bytes, total: bytes, partials: bytes) -> bytes:
    """Returns the digest of everything that a proof is about, 32 bytes."""
    return transcript.digest("paillier-partials", key_digest, holder, context, total, partials)


def proof_bytes(exponent_bits: int) -> int:
    """Returns the size of a proof: the challenge and the response."""
    return _CHALLENGE_BYTES + -(-(_nonce_bits(exponent_bits) + 1) // 8)


def prove(statement: Statement, exponent: mpz, randomness: Randomness) -> bytes:
    """Proves the statement with its secret exponent Δs.

    Returns:
        The challenge, 32 bytes, and the response r + challenge·Δs, big-endian; `proof_bytes`.
    """
    square, size = statement.modulus.square, proof_bytes(statement.exponent_bits)
    ciphertext, _ = statement.combined()
    # A nonce of 0, once in 2^4000 draws, is none that powmod_sec takes.
    nonce = 1 + random_bits(randomness, _nonce_bits(statement.exponent_bits) - 1)
    challenge = statement.challenge(
        gmpy2.powmod_sec(statement.base, nonce, square),
        gmpy2.powmod_sec(ciphertext, nonce, square),
    )
    response = nonce + from_bytes(challenge) * exponent
    return challenge + to_bytes(response, size - _CHALLENGE_BYTES)


def holds(statement: Statement, proof: bytes) -> bool:
    """Tells whether a proof, which has `proof_bytes`, shows the statement."""
    challenge = proof[:_CHALLENGE_BYTES]
    response = from_bytes(proof[_CHALLENGE_BYTES:])
    if response.bit_length() > _nonce_bits(statement.exponent_bits) + 1:
        return False
    ciphertext, partial = statement.combined()
    commitments = (
        _commitment(base, response, image, challenge, statement.modulus.square)
        for base, image in (
            (statement.base, statement.verification),
            (ciphertext, partial),
        )
    )
    return statement.challenge(*commitments) == challenge


def _commitment(base: mpz, response: mpz, image: mpz, challenge: bytes, modulus: mpz) -> mpz:
    # Both images are units: the key's were checked when it was read, the partials before.
    return (
        gmpy2.powmod(base, response, modulus)
        * gmpy2.powmod(image, -from_bytes(challenge), modulus)
        % modulus
    )


def _nonce_bits(exponent_bits: int) -> int:
    return exponent_bits + 8 * _CHALLENGE_BYTES + _HIDING_BITS
