"""Random n-th residues at one product for each digit of the exponent, with the public key alone.

I. Damgård, M. Jurik, J. Nielsen, *A generalization of Paillier's public-key system with
applications to electronic voting*, International Journal of Information Security 9 (2010), section
4.2: for n = p·q with p = q = 3 mod 4, h = -x² mod n and a random exponent a, h_s^a with
h_s = h^n mod n² stands for a random n-th residue. An exponent of half the modulus' length rests on
factoring alone (O. Goldreich, V. Rosen, *On the security of modular exponentiation*, Journal of
Cryptology 16, 2003). A shorter one is an additional assumption: that powers of h with such
exponents cannot be told from random ones (T. Koshiba, K. Kurosawa, *Short exponent Diffie-Hellman
problems*, PKC 2004; H. Ma, S. Han, H. Wang, *Optimized Paillier's cryptosystem with fast encryption
and decryption*, ACSAC 2021, whose 448 and 512 bits are ours).

x is derived from n, so that h holds nothing of the secret and nobody chose it.
"""

from collections.abc import Iterator

import gmpy2
import numpy as np
from gmpy2 import mpz

from finsecure_crypto.homomorphic.paillier.integers import derive, to_bytes
from finsecure_crypto.homomorphic.paillier.modulus import Modulus
from finsecure_crypto.randomness import Randomness, draw

SHORT_EXPONENT_BITS = {2048: 448, 3072: 512}

MIN_WINDOW, MAX_WINDOW = 1, 16
DEFAULT_WINDOW = 10
"""Bits of a digit: a table of 24 MB for 2048 bits, where 12 would make one of 80 MB."""


class Blinder:
    """The powers of h_s in a table T[i][d] = h_s^(d·2^(w·i)), and random products of them.

    Which entries are read is secret and shows in the caches of the machine that encrypts.

    Args:
        modulus: p and q are 3 mod 4; not so for keys of every library.
        exponent_bits: rounded up to whole digits.
        window: w, bits of a digit, 1 to 16.
    """

    def __init__(self, modulus: Modulus, exponent_bits: int, window: int = DEFAULT_WINDOW) -> None:
        self.window = window
        self.digits = -(-exponent_bits // window)
        self._square = modulus.square
        self._table: list[list[mpz]] = []
        power = residue_base(modulus)
        for _ in range(self.digits):
            row = [mpz(1)]
            for _ in range(2**window):
                row.append(row[-1] * power % self._square)
            power = row.pop()
            self._table.append(row)

    def powers(self, count: int, randomness: Randomness) -> Iterator[tuple[mpz, mpz]]:
        """Yields fresh random exponents a, each with its h_s^a.

        Args:
            count: how many.
            randomness: two bytes a digit, the low `window` bits of a little-endian uint16, the
                lowest digit of an exponent first.
        """
        drawn = np.frombuffer(draw(randomness, 2 * count * self.digits), "<u2")
        exponents = (drawn & np.uint16(2**self.window - 1)).reshape(count, self.digits)
        first, *rest = self._table
        square = self._square
        for exponent in exponents:
            digits = exponent.tolist()
            product = first[digits[0]]
            for row, digit in zip(rest, digits[1:], strict=True):
                product = product * row[digit] % square
            yield gmpy2.pack(digits, self.window), product

    def residues(self, count: int, randomness: Randomness) -> Iterator[mpz]:
        """Yields h_s^a alone, as `powers`."""
        return (power for _, power in self.powers(count, randomness))


def residue_base(modulus: Modulus) -> mpz:
    """Computes h_s = h^n mod n² for h = -x² mod n, x derived from n."""
    n = modulus.n
    x = derive(n, "paillier-blinding-base", to_bytes(n, modulus.bits // 8))
    return gmpy2.powmod(-x * x % n, n, modulus.square)


def window_for(count: int, largest: int = DEFAULT_WINDOW) -> int:
    """Returns the window with the fewest products for a number of ciphertexts, table included."""
    return min(range(MIN_WINDOW, largest + 1), key=lambda w: (2**w + count) / w)
