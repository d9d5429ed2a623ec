"""The public key as contributors and whoever adds up use it: fast encryption, checks and sums."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.homomorphic.paillier import packing, plaintext_proof
from finsecure_crypto.homomorphic.paillier.blinding import Blinder, residue_base, window_for
from finsecure_crypto.homomorphic.paillier.threshold import ThresholdKey, require_context
from finsecure_crypto.homomorphic.scheme import Shape, Sums, missing_proof
from finsecure_crypto.randomness import Randomness

_BATCH = 256  # ciphertexts for which randomness is drawn at once


@dataclass(frozen=True)
class Encrypted:
    """Ciphertexts, and what their sender alone may know of them.

    Attributes:
        run: of one or more ciphertexts.
        exponents: that blind them, as many.
    """

    run: bytes
    exponents: Sequence[mpz] = field(repr=False)


class PaillierKey(ThresholdKey):
    """The public key of trustees, of whom `threshold` open a sum; an `EncryptionKey`."""

    def shape(self, layout: VectorLayout) -> Shape:
        """Returns how many ciphertexts an input has; every layout can be summed exactly."""
        count = packing.ciphertexts_for(self.modulus, layout.words)
        return Shape(count, self.modulus.ciphertext_bytes, self.proof_bytes)

    @property
    def proof_bytes(self) -> int:
        """Bytes of the proof behind an input's ciphertexts."""
        return plaintext_proof.proof_bytes(self.modulus, self.exponent_bits)

    def error_bound(self, layout: VectorLayout) -> float:
        """Returns 0.0: sums are exact."""
        return 0.0

    def encrypt(
        self,
        layout: VectorLayout,
        values: Mapping[str, NDArray[Any]],
        rng: np.random.Generator,
        randomness: Randomness = os.urandom,
    ) -> Iterator[bytes]:
        """Encrypts one client's values, as `EncryptionKey.encrypt`."""
        words = layout.encode(values, rng)
        blinder = self.blinder(self.shape(layout).count)
        return (part.run for part in self.encrypt_words(words, blinder, randomness))

    def encrypt_input(
        self,
        layout: VectorLayout,
        values: Mapping[str, NDArray[Any]],
        rng: np.random.Generator,
        binding: bytes,
        randomness: Randomness = os.urandom,
    ) -> Iterator[bytes]:
        """Makes one client's input, as `EncryptionKey.encrypt_input`."""
        words = layout.encode(values, rng)
        blinder = self.blinder(self.shape(layout).count)
        encrypted = self.encrypt_words(words, blinder, randomness)
        return self.proven(words, encrypted, binding, randomness)

    def blinder(self, count: int) -> Blinder:
        """Makes the table that encrypts a number of ciphertexts with the least work."""
        return Blinder(self.modulus, self.exponent_bits, window_for(count))

    def encrypt_words(
        self, words: NDArray[np.uint64], blinder: Blinder, randomness: Randomness = os.urandom
    ) -> Iterator[Encrypted]:
        """Encrypts words of an encoded vector, `modulus.words` to a ciphertext.

        A vector can be cut at multiples of `modulus.words`, and its pieces encrypted anywhere.
        """
        plaintexts = packing.pack(self.modulus, words)
        while batch := list(islice(plaintexts, _BATCH)):
            exponents, powers = zip(*blinder.powers(len(batch), randomness), strict=True)
            run = self.modulus.join(
                [self.modulus.blinded(m, power) for m, power in zip(batch, powers, strict=True)]
            )
            yield Encrypted(run, exponents)

    def proven(
        self,
        words: NDArray[np.uint64],
        encrypted: Iterable[Encrypted],
        binding: bytes,
        randomness: Randomness = os.urandom,
    ) -> Iterator[bytes]:
        """Passes on the ciphertexts of all words of an input, and the proof at their end.

        Args:
            words: of the input.
            encrypted: as `encrypt_words` yields it.
            binding: as in `encrypt_input`.
            randomness: of the proof.

        Raises:
            InvalidArgumentError: `CONTEXT_LENGTH`; the caller's.
        """
        require_context(binding)
        digest, exponents = hashlib.sha256(), list[mpz]()
        for part in encrypted:
            digest.update(part.run)
            exponents += part.exponents
            yield part.run
        plaintexts = packing.pack(self.modulus, words)
        statement = self._plaintext_statement(binding)
        yield statement.prove(digest.digest(), plaintexts, exponents, randomness)

    def encrypt_integers(self, values: Sequence[int], randomness: Randomness = os.urandom) -> bytes:
        """Encrypts integers, one a ciphertext, for `scalar_product`.

        Args:
            values: each from 0 to n - 1.
            randomness: what blinds the ciphertexts.

        Raises:
            InvalidArgumentError: `PLAINTEXT_RANGE`; the caller's.
        """
        self.modulus.require_plaintexts(values)
        residues = self.blinder(len(values)).residues(len(values), randomness)
        return self.modulus.join(
            [self.modulus.blinded(m, r) for m, r in zip(values, residues, strict=True)]
        )

    def check(self, run: bytes) -> int:
        """Checks each ciphertext of a run and returns how many there are.

        Raises:
            IntegrityError: `CIPHERTEXT_MALFORMED`; the sender's.
        """
        return len(self.modulus.parse(run))

    def ciphertext_part(self, size_bytes: int) -> int:
        """Returns how many bytes of an input are ciphertexts, as `EncryptionKey`."""
        size, ciphertexts = self.modulus.ciphertext_bytes, size_bytes - self.proof_bytes
        if ciphertexts > 0 and not ciphertexts % size:
            return ciphertexts
        if size_bytes and not size_bytes % size:
            raise missing_proof()
        raise IntegrityError(
            "CIPHERTEXT_MALFORMED",
            f"{size_bytes} bytes are not ciphertexts of {size} bytes and a proof of "
            f"{self.proof_bytes}",
        )

    def check_input(self, runs: Iterable[bytes], proof: bytes, binding: bytes) -> None:
        """Checks an input and the proof that its sender knows what it holds.

        Raises:
            IntegrityError: `CIPHERTEXT_MALFORMED`, `PLAINTEXT_PROOF_MISSING` or
                `PLAINTEXT_PROOF_REJECTED`; the sender's.
            InvalidArgumentError: `CONTEXT_LENGTH`; the caller's.
        """
        require_context(binding)
        if len(proof) != self.proof_bytes:
            raise missing_proof()
        if not self._plaintext_statement(binding).holds(runs, proof):
            raise IntegrityError(
                "PLAINTEXT_PROOF_REJECTED",
                "the proof that the sender knows what it encrypted does not hold for this key, "
                "this round or sum and this sender; encrypt again with an unchanged client",
            )

    @cached_property
    def _residue_base(self) -> mpz:
        return residue_base(self.modulus)

    def _plaintext_statement(self, binding: bytes) -> plaintext_proof.Statement:
        return plaintext_proof.Statement(
            self.modulus, self._residue_base, self.exponent_bits, self.digest(), binding
        )

    def add(self, first: bytes, second: bytes) -> bytes:
        """Adds two runs of the same length, both checked, ciphertext by ciphertext.

        Raises:
            InvalidArgumentError: `RUN_LENGTH`; the caller's.
        """
        return self.modulus.add(first, second)

    def scalar_product(
        self, run: bytes, weights: Sequence[int], randomness: Randomness = os.urandom
    ) -> bytes:
        """Makes a fresh ciphertext of Σ weights[j]·m_j, which shows nothing of the weights.

        The sum is taken mod n: see that it stays below n.

        Args:
            run: ciphertexts of m_j, as of `encrypt_integers` and their sums.
            weights: as many non-negative integers; computing takes a time that depends on them.
            randomness: what blinds the result.

        Raises:
            IntegrityError: `CIPHERTEXT_MALFORMED`; the sender's.
            InvalidArgumentError: `WEIGHTS_INVALID`; the caller's.
        """
        product = self.modulus.scalar_product(run, weights)
        (residue,) = self.blinder(1).residues(1, randomness)
        return self.modulus.join([product * residue % self.modulus.square])

    def combine(
        self,
        layout: VectorLayout,
        contributors: int,
        total: bytes,
        partials: Mapping[int, bytes],
        context: bytes,
    ) -> Sums:
        """Opens a sum, as `EncryptionKey.combine`; each partial is verified before it is used."""
        plaintexts = self.open_integers(total, partials, context)
        return packing.unpack(self.modulus, layout, contributors, plaintexts)
