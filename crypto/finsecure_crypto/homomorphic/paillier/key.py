"""The public key of a threshold: fast encryption, and opening with partial decryptions.

I. Damgård, M. Jurik, *A generalisation, a simplification and some applications of Paillier's
probabilistic public-key system*, PKC 2001, section 4.1, after Shoup 2000: the secret d, 0 mod p'q'
and 1 mod n, is the constant term of a polynomial over Z_(n·p'·q'), holder i has its value s_i at i.
A partial decryption is c^(2Δs_i), Δ = holders!; with the Lagrange coefficients λ of a set of
holders, ∏ p_i^(2Δλ_i) = c^(4Δ²d) = 1 + 4Δ²·m·n mod n².
"""

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import (
    IntegrityError,
    InvalidArgumentError,
    ProtocolViolationError,
    StateError,
)
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.paillier import key_format, packing, plaintext_proof, proof
from finsecure_crypto.homomorphic.paillier.blinding import Blinder, residue_base, window_for
from finsecure_crypto.homomorphic.paillier.integers import derive, to_bytes
from finsecure_crypto.homomorphic.paillier.modulus import Modulus
from finsecure_crypto.homomorphic.scheme import (
    CONTEXT_BYTES,
    Shape,
    Sums,
    key_digest,
    missing_proof,
)
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


@dataclass(frozen=True)
class PaillierKey:
    """The public key of trustees, of whom `threshold` open a sum; an `EncryptionKey`.

    Attributes:
        modulus: n.
        holders: how many trustees hold a share, 2 to 16.
        threshold: how many open: at least 2, and more than half of them.
        exponent_bits: of the blinding exponents: 448 or 512, or half the modulus.
        verification: v^(Δs_i) mod n² for each holder.
    """

    modulus: Modulus
    holders: int
    threshold: int
    exponent_bits: int
    verification: tuple[mpz, ...] = field(repr=False)

    @property
    def mode(self) -> Mode:
        """The scheme."""
        return Mode.PAILLIER

    @cached_property
    def delta(self) -> int:
        """Δ, the factorial of `holders`."""
        return math.factorial(self.holders)

    @cached_property
    def verification_base(self) -> mpz:
        """The base v of the verification keys: it follows from n, and generates the squares."""
        n, square = self.modulus.n, self.modulus.square
        root = derive(square, "paillier-verification-base", to_bytes(n, self.modulus.bits // 8))
        return root * root % square

    def serialise(self) -> bytes:
        """Returns the canonical form, which `registry.load_key` reads."""
        return key_format.write_key(
            self.modulus, self.holders, self.threshold, self.exponent_bits, self.verification
        )

    def digest(self) -> bytes:
        """Returns the key's digest, 32 bytes."""
        return key_digest(self.mode, self.serialise())

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

    def verify_partial(self, total: bytes, holder: int, partial: bytes, context: bytes) -> None:
        """Checks the proof of a partial decryption.

        Raises:
            ProtocolViolationError: `PARTIAL_INVALID`, with `str(holder)` as culprit.
            IntegrityError: `CIPHERTEXT_MALFORMED` for the total.
            InvalidArgumentError: `CONTEXT_LENGTH`; the caller's.
        """
        self._verified(total, self.modulus.parse(total), holder, partial, context)

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

    def open_integers(
        self, total: bytes, partials: Mapping[int, bytes], context: bytes
    ) -> list[int]:
        """Opens a run to its plaintexts, integers below n, as `combine` but without a layout.

        Raises:
            StateError: `TOO_FEW_PARTIALS`.
            ProtocolViolationError: `PARTIAL_INVALID`, with the lowest liar as culprit.
            IntegrityError: `CIPHERTEXT_MALFORMED` for the total; `PARTIALS_DISAGREE` when verified
                partials do not open it, as with a key whose dealer was wrong.
            InvalidArgumentError: `CONTEXT_LENGTH`; the caller's.
        """
        ciphertexts = self.modulus.parse(total)
        verified = {
            holder: self._verified(total, ciphertexts, holder, partials[holder], context)
            for holder in sorted(partials)
        }
        if len(verified) < self.threshold:
            raise StateError(
                "TOO_FEW_PARTIALS",
                f"{len(verified)} of the {self.threshold} partial decryptions that open a sum are "
                "here; ask more trustees",
            )
        chosen = list(verified)[: self.threshold]
        n, square = self.modulus.n, self.modulus.square
        coefficients = [2 * self._lagrange(holder, chosen) for holder in chosen]
        scale = gmpy2.invert(4 * self.delta * self.delta, n)
        plaintexts = []
        for row in zip(*(verified[holder] for holder in chosen), strict=True):
            power = mpz(1)
            for partial, coefficient in zip(row, coefficients, strict=True):
                power = power * gmpy2.powmod(partial, coefficient, square) % square
            quotient, rest = divmod(power - 1, n)
            if rest:
                raise IntegrityError(
                    "PARTIALS_DISAGREE",
                    "the partial decryptions do not open this sum; ask another trustee, and make "
                    "a new key if it stays so",
                )
            plaintexts.append(int(quotient * scale % n))
        return plaintexts

    def statement(
        self,
        holder: int,
        context: bytes,
        run: tuple[bytes, Sequence[mpz]],
        partials: tuple[bytes, Sequence[mpz]],
    ) -> proof.Statement:
        """Says what a holder's proof of partials is about; each of both as bytes and integers."""
        return proof.Statement(
            modulus=self.modulus,
            base=self.verification_base,
            verification=self.verification[holder - 1],
            exponent_bits=self.secret_bits,
            seed=proof.seed(self.digest(), holder, context, run[0], partials[0]),
            ciphertexts=run[1],
            partials=partials[1],
        )

    @property
    def secret_bits(self) -> int:
        """Bits of Δs_i: of Δ and of n²."""
        return 2 * self.modulus.bits + self.delta.bit_length()

    def _verified(
        self,
        total: bytes,
        ciphertexts: Sequence[mpz],
        holder: int,
        partial: bytes,
        context: bytes,
    ) -> list[mpz]:
        require_context(context)
        if not 1 <= holder <= self.holders:
            raise _lie(holder, f"the key has holders 1 to {self.holders}")
        if len(partial) != len(total) + proof.proof_bytes(self.secret_bits):
            raise _lie(holder, f"it has {len(partial)} bytes")
        values, evidence = partial[: len(total)], partial[len(total) :]
        try:
            elements = self.modulus.parse(values)
        except IntegrityError:
            raise _lie(holder, "an element of it is no unit mod n²") from None
        statement = self.statement(holder, context, (total, ciphertexts), (values, elements))
        if not proof.holds(statement, evidence):
            raise _lie(holder, "its proof does not hold for this key, sum and request")
        return elements

    def _lagrange(self, holder: int, chosen: Sequence[int]) -> int:
        """Returns Δ·λ, an integer, of a holder among those chosen."""
        above = self.delta * math.prod(other for other in chosen if other != holder)
        return above // math.prod(other - holder for other in chosen if other != holder)


def require_context(context: bytes) -> None:
    """Refuses a context that is no digest.

    Raises:
        InvalidArgumentError: `CONTEXT_LENGTH`; the caller's.
    """
    if len(context) != CONTEXT_BYTES:
        raise InvalidArgumentError("CONTEXT_LENGTH", f"a context has {CONTEXT_BYTES} bytes")


def _lie(holder: int, reason: str) -> ProtocolViolationError:
    return ProtocolViolationError(
        "PARTIAL_INVALID",
        f"the partial decryption of trustee {holder} is wrong: {reason}; ask another trustee",
        culprit=str(holder),
    )
