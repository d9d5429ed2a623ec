"""Slow lattice arithmetic in plain Python integers, from the definitions.

Polynomials are lists of coefficients modulo q in Z_q[X]/(X^N + 1). A transform lists the values at
odd powers of psi, the least primitive 2N-th root of one modulo a prime, in bit-reversed order.
"""

import hashlib

from tests.reference import transcript


def multiply(a, b, q):
    """Multiplies by the definition: X^N = -1."""
    n = len(a)
    product = [0] * n
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            sign = 1 if i + j < n else -1
            product[(i + j) % n] = (product[(i + j) % n] + sign * x * y) % q
    return product


def root(prime, n):
    """Returns the least element of order 2N modulo a prime."""
    for base in range(2, prime):
        generator = pow(base, (prime - 1) // (2 * n), prime)
        if pow(generator, n, prime) == prime - 1:
            break
    return min(pow(generator, k, prime) for k in range(1, 2 * n, 2))


def transform(a, prime):
    """Evaluates a polynomial at psi^(2·reversed(i) + 1) for each i."""
    n = len(a)
    psi, bits = root(prime, n), n.bit_length() - 1
    values = []
    for i in range(n):
        x = pow(psi, 2 * int(f"{i:0{bits}b}"[::-1], 2) + 1, prime)
        values.append(sum(c * pow(x, k, prime) for k, c in enumerate(a)) % prime)
    return values


def uniform(seed, n, prime):
    """Expands a seed: SHAKE-256 words, cut to the bits of the prime, those below it in order."""
    stream = hashlib.shake_256(transcript.encode("lattice-uniform", seed, prime)).digest(32 * n)
    words = [int.from_bytes(stream[i : i + 8], "little") for i in range(0, len(stream), 8)]
    return [w for w in (w % 2 ** prime.bit_length() for w in words) if w < prime][:n]


def noise(drawn, n):
    """Counts 21 coins a side: the low 21 bits of three bytes, little-endian."""
    words = [int.from_bytes(drawn[i : i + 3], "little") % 2**21 for i in range(0, 6 * n, 3)]
    heads = [word.bit_count() for word in words]
    return [heads[i] - heads[n + i] for i in range(n)]


def pack(rows, word_bits, spare_bits):
    """Packs N residues: one long integer for each column of g rows, cut into g - 1 words."""
    group = word_bits // spare_bits
    width, bits = len(rows) // group, word_bits - spare_bits
    words = [0] * ((group - 1) * width)
    for column in range(width):
        joined = sum(rows[row * width + column] << (row * bits) for row in range(group))
        for row in range(group - 1):
            words[row * width + column] = joined >> (row * word_bits) & (2**word_bits - 1)
    return b"".join(word.to_bytes(word_bits // 8, "little") for word in words)
