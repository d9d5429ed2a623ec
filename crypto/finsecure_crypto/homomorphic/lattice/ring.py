"""Arithmetic in R_q on arrays of residues, with SEAL as the engine.

An element of R_q is uint64 residues of shape (primes, N), each below its prime. SEAL multiplies
only ciphertexts, so polynomials travel as the parts of one, in a context that has no security and
needs none: no secret of SEAL's own is in it. Its order of the values of a transform is SEAL's, the
same in every context with that prime and N.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import seal
from numpy.typing import NDArray

from finsecure_crypto.homomorphic.lattice import seal_bytes
from finsecure_crypto.homomorphic.lattice.seal_bytes import Residues

# How many polynomials go to SEAL at once: its ciphertexts have at most 16, and one is a guard.
BATCH = 15
_GUARD_BITS = 59  # of a prime that no parameters use


class Ring:
    """R_q for one N and one list of primes.

    Attributes:
        degree: N.
        primes: the factors of q.
        columns: the same as uint64, shape (primes, 1), to compute with residues.
    """

    def __init__(self, degree: int, primes: tuple[int, ...]) -> None:
        self.degree, self.primes = degree, primes
        self.columns = np.array(primes, np.uint64)[:, None]
        parameters = seal.EncryptionParameters(seal.scheme_type.ckks)
        parameters.set_poly_modulus_degree(degree)
        # The last prime of a context is left out of its ciphertexts.
        spare = seal.CoeffModulus.Create(degree, [_GUARD_BITS])
        parameters.set_coeff_modulus([*(seal.Modulus(prime) for prime in primes), *spare])
        self._context = seal.SEALContext(parameters, True, seal.sec_level_type.none)
        self._parms_id = self._context.first_parms_id()
        self._evaluator = seal.Evaluator(self._context)

    def forward(self, polynomials: Residues, factor: int = 1) -> Residues:
        """Transforms coefficients, shape (m, primes, N), into values: the negacyclic NTT.

        Multiplies them by an integer on the way, which saves carrying them to SEAL and back.
        """

        def transform(carrier: seal.Ciphertext) -> None:
            self._evaluator.transform_to_ntt_inplace(carrier)
            if factor != 1:
                self._evaluator.multiply_plain_inplace(carrier, plain)

        plain = self._constant((factor,) * len(self.primes))
        return self._apply(polynomials, transform, ntt=False)

    def inverse(self, values: Residues) -> Residues:
        """Transforms values, shape (m, primes, N), back into coefficients."""
        return self._apply(values, self._evaluator.transform_from_ntt_inplace, ntt=True)

    def multiply(self, values: Residues, factor: Residues) -> Residues:
        """Multiplies values, shape (m, primes, N), by the values of one factor, (primes, N)."""
        # SEAL multiplies any plaintext that is not zero.
        if not factor.any():
            return np.zeros_like(values)
        return self._multiply(values, self._plaintext(factor))

    def scale(self, values: Residues, factors: tuple[int, ...]) -> Residues:
        """Multiplies values, shape (m, primes, N), by an integer for each prime."""
        return self._multiply(values, self._constant(factors))

    def add(self, first: Residues, second: Residues) -> Residues:
        """Adds residues in the same form."""
        return add(first, second, self.columns)

    def negate(self, residues: Residues) -> Residues:
        """Negates residues."""
        return np.where(residues == 0, residues, self.columns - residues)

    def reduce(self, coefficients: NDArray[np.int64]) -> Residues:
        """Turns signed coefficients, shape (m, N), into residues, shape (m, primes, N)."""
        return np.mod(coefficients[:, None, :], self.columns.astype(np.int64)).astype(np.uint64)

    def centre(self, residues: Residues) -> NDArray[np.int64]:
        """Turns residues into the integers nearest to zero, each by its own prime."""
        signed = residues.astype(np.int64)
        primes = self.columns.astype(np.int64)
        return np.where(signed > primes // 2, signed - primes, signed)

    def fractions(self, values: Residues) -> NDArray[np.float64]:
        """Returns each coefficient divided by q, in [-1/2, 1/2), shape (m, N).

        By the Chinese remainder theorem x/q = Σ (x·(q/p)^-1 mod p)/p modulo 1; the error is that of
        float64.
        """
        modulus = int(np.prod(np.array(self.primes, object)))
        cofactors = tuple(pow(modulus // prime, -1, prime) for prime in self.primes)
        terms = self.inverse(self.scale(values, cofactors)) / self.columns.astype(np.float64)
        fractions: NDArray[np.float64] = (terms.sum(axis=1) + 0.5) % 1.0 - 0.5
        return fractions

    def _multiply(self, values: Residues, plain: seal.Plaintext) -> Residues:
        return self._apply(
            values, lambda each: self._evaluator.multiply_plain_inplace(each, plain), ntt=True
        )

    def _constant(self, factors: tuple[int, ...]) -> seal.Plaintext:
        constants = np.array(factors, np.uint64)[:, None] % self.columns
        return self._plaintext(np.repeat(constants, self.degree, axis=1))

    def _plaintext(self, values: Residues) -> seal.Plaintext:
        plain = seal.Plaintext()
        plain.load_bytes(self._context, seal_bytes.plaintext(self._parms_id, values, 1.0))
        return plain

    def _apply(
        self, polynomials: Residues, operation: Callable[[seal.Ciphertext], None], *, ntt: bool
    ) -> Residues:
        done = np.empty_like(polynomials)
        batch = np.ones((BATCH + 1, *polynomials.shape[1:]), np.uint64)
        for start in range(0, len(polynomials), BATCH):
            part = polynomials[start : start + BATCH]
            # SEAL refuses a ciphertext that is zero but for its first polynomial: the last, of
            # ones, keeps it from looking.
            sent = batch[: len(part) + 1]
            sent[: len(part)] = part
            sent[len(part)] = 1
            carrier = seal.Ciphertext()
            carrier.load_bytes(
                self._context, seal_bytes.ciphertext(self._parms_id, sent, 1.0, ntt=ntt)
            )
            operation(carrier)
            result = seal_bytes.residues(
                carrier.to_string(), self._parms_id, sent.shape, 1.0, ntt=carrier.is_ntt_form()
            )
            done[start : start + len(part)] = result[: len(part)]
        return done


def add(
    first: NDArray[np.unsignedinteger],
    second: NDArray[np.unsignedinteger],
    primes: NDArray[np.unsignedinteger],
) -> NDArray[Any]:
    """Adds residues below primes that leave the highest bit of their dtype free."""
    total = first + second
    # What is below the prime wraps around to something larger.
    reduced: NDArray[Any] = np.minimum(total, total - primes)
    return reduced
