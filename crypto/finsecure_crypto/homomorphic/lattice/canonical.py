"""The canonical form of polynomials over the primes of a ciphertext: residues and nothing else.

Two polynomials, in each the primes in order, for each prime N residues in SEAL's order. Both a
ciphertext (c0, c1) and a partial decryption of one (a product for each held component) have this
form, so its size says nothing, and every element has one form only.

Residues have d bits less than a word of W bits, so g = W/d of them fit into g - 1 words. The N
residues are g rows of N/g; the rows of a packed polynomial are, with r and w rows of both,

    w_j = r_j >> d·j | r_{j+1} << W - d·(j + 1)      for j < g - 1, little-endian words
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto.homomorphic.lattice.parameters import Parameters
from finsecure_crypto.homomorphic.lattice.ring import add
from finsecure_crypto.homomorphic.lattice.seal_bytes import Residues

Pairs = NDArray[Any]
"""Residues in the mode's word, shape (m, 2, primes, N)."""


def read(parameters: Parameters, data: bytes | memoryview) -> Pairs | None:
    """Reads a run of pairs of polynomials; None if it is not one, or is empty."""
    if not data or len(data) % parameters.ciphertext_bytes:
        return None
    primes = columns(parameters)
    pairs = _unpack(parameters, np.frombuffer(data, parameters.word))
    pairs = pairs.reshape(-1, 2, len(primes), parameters.degree)
    return pairs if bool(np.all(pairs < primes)) else None


def write(parameters: Parameters, pairs: Residues | Pairs) -> bytes:
    """Writes residues of shape (…, primes, N), in order."""
    return _pack(parameters, pairs.astype(parameters.word, copy=False)).tobytes()


def total(parameters: Parameters, first: Pairs, second: Pairs) -> Pairs:
    """Adds pairs, or single polynomials, in the mode's word."""
    return add(first, second, columns(parameters))


def columns(parameters: Parameters) -> NDArray[Any]:
    """Returns the primes of a ciphertext in the mode's word, shape (primes, 1)."""
    return np.array(parameters.ciphertext_primes, parameters.word)[:, None]


def _pack(parameters: Parameters, residues: Pairs) -> NDArray[Any]:
    group, shift = _packing(parameters)
    rows = residues.reshape(-1, group, parameters.degree // group)
    words = np.empty((len(rows), group - 1, rows.shape[2]), parameters.word)
    for row in range(group - 1):
        words[:, row] = rows[:, row] >> shift[row]
        words[:, row] |= rows[:, row + 1] << shift[group - 1 - row]
    return words


def _unpack(parameters: Parameters, words: NDArray[Any]) -> Pairs:
    group, shift = _packing(parameters)
    words = words.reshape(-1, group - 1, parameters.degree // group)
    rows = np.zeros((len(words), group, words.shape[2]), parameters.word)
    for row in range(group - 1):
        rows[:, row] |= words[:, row] << shift[row]
        rows[:, row + 1] = words[:, row] >> shift[group - 1 - row]
    rows &= words.dtype.type(2 ** (parameters.word_bits - parameters.spare_bits) - 1)
    return rows


def _packing(parameters: Parameters) -> tuple[int, NDArray[Any]]:
    """Returns g and the shifts 0, d, 2·d, … in the mode's word."""
    group = parameters.word_bits // parameters.spare_bits
    return group, np.arange(group, dtype=parameters.word) * parameters.spare_bits
