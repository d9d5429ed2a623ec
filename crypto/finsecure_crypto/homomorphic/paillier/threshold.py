"""The threshold of a public key: its trustees, and opening with their partial decryptions.

I. Damgård, M. Jurik, *A generalisation, a simplification and some applications of Paillier's
probabilistic public-key system*, PKC 2001, section 4.1, after Shoup 2000: the secret d, 0 mod p'q'
and 1 mod n, is the constant term of a polynomial over Z_(n·p'·q'), holder i has its value s_i at i.
A partial decryption is c^(2Δs_i), Δ = holders!; with the Lagrange coefficients λ of a set of
holders, ∏ p_i^(2Δλ_i) = c^(4Δ²d) = 1 + 4Δ²·m·n mod n².
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import gmpy2
from gmpy2 import mpz

from finsecure_crypto.errors import (
    IntegrityError,
    InvalidArgumentError,
    ProtocolViolationError,
    StateError,
)
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.paillier import key_format, proof
from finsecure_crypto.homomorphic.paillier.integers import derive, to_bytes
from finsecure_crypto.homomorphic.paillier.modulus import Modulus
from finsecure_crypto.homomorphic.scheme import CONTEXT_BYTES, key_digest


@dataclass(frozen=True)
class ThresholdKey:
    """All parameters of a public key, and how trustees open what is encrypted under it.

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

    def verify_partial(self, total: bytes, holder: int, partial: bytes, context: bytes) -> None:
        """Checks the proof of a partial decryption.

        Raises:
            ProtocolViolationError: `PARTIAL_INVALID`, with `str(holder)` as culprit.
            IntegrityError: `CIPHERTEXT_MALFORMED` for the total.
            InvalidArgumentError: `CONTEXT_LENGTH`; the caller's.
        """
        self._verified(total, self.modulus.parse(total), holder, partial, context)

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
