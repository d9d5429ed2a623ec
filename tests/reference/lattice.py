"""Slow lattice arithmetic in plain Python integers, from the definitions.

Polynomials are lists of coefficients modulo q in Z_q[X]/(X^N + 1). A transform lists the values at
odd powers of psi, the least primitive 2N-th root of one modulo a prime, in bit-reversed order.
"""

import hashlib
import hmac

from tests.reference import masks, transcript


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


def fast_transform(a, prime):
    """Does the same as `transform` by halving: X^2m + w² = (X^m + iw)(X^m - iw), i = psi^(N/2)."""
    n = len(a)
    psi, values, length, branch = root(prime, n), list(a), n, 1
    bits = n.bit_length() - 1
    while length > 1:
        length //= 2
        for block in range(branch):
            power = int(f"{branch + block:0{bits}b}"[::-1], 2)
            w, start = pow(psi, power, prime), 2 * block * length
            for i in range(start, start + length):
                x, y = values[i], values[i + length] * w % prime
                values[i], values[i + length] = (x + y) % prime, (x - y) % prime
        branch *= 2
    return values


def ternary(randomness, n):
    """Takes bytes modulo 3, as many calls as it needs; those of 252 and more are skipped."""
    kept = []
    while len(kept) < n:
        kept += [byte % 3 for byte in randomness(n) if byte < 252]
    return bytes(kept[:n])


def smudging(seed, residues, word_bytes, n):
    """Adds three keystream words of 59 bits; the key comes from the seed and the residues."""
    part = b"".join(residue.to_bytes(word_bytes, "little") for row in residues for residue in row)
    pseudorandom = hmac.digest(hashlib.sha256(part).digest(), seed, "sha256")
    info = transcript.encode("lattice-smudging")
    key = hmac.digest(pseudorandom, info + b"\x01", "sha256")[:16]
    words = [word >> 5 for word in masks.mask(key, 3 * n)]
    return [words[i] + words[n + i] + words[2 * n + i] - 3 * 2**58 for i in range(n)]


def contribution(seed, secret, errors, primes, factor, word_bytes):
    """Returns b = -(a·s + t·e) over all primes, a having been expanded from a seed."""
    n, written = len(secret), b""
    for prime in primes:
        a = uniform(seed, n, prime)
        s = fast_transform([(c - 1) % prime for c in secret], prime)
        e = fast_transform([factor * c % prime for c in errors], prime)
        row = [-(x * y + z) % prime for x, y, z in zip(a, s, e, strict=True)]
        written += b"".join(value.to_bytes(word_bytes, "little") for value in row)
    return written


def partial(residues, secret, flood, primes, factor):
    """Returns c1·s + t·f as values, one row for each prime."""
    rows = []
    for row, prime in zip(residues, primes, strict=True):
        s = fast_transform([(c - 1) % prime for c in secret], prime)
        f = fast_transform([factor * c % prime for c in flood], prime)
        rows.append([(x * y + z) % prime for x, y, z in zip(row, s, f, strict=True)])
    return rows
