"""Arithmetic in GF(2^31 - 1) on numpy arrays, without a branch or division that depends on data.

Elements are canonical: uint64 in [0, P). P is a Mersenne prime, so a product is reduced by adding
its high bits to its low ones. Sums of products run through the floating-point matrix product of
BLAS and are exact there: the left factor is cut into 11-bit pieces, so that every partial sum is
an integer below 2^53, whichever order BLAS adds in.
"""

import math

import numpy as np
from numpy.typing import NDArray

P = 2**31 - 1

Elements = NDArray[np.uint64]

_BITS = np.uint64(31)
_P = np.uint64(P)

# 2^31 (a right-hand element) · 2^11 (a piece) · 2^11 (terms) = 2^53, what float64 holds exactly.
_PIECE_BITS = 11
_PIECES = 3
_EXACT_TERMS = 2**11

# Elements of a table of intermediate values that are held at once: 8 MiB.
_TABLE_ELEMENTS = 2**20
# The same for differences, whose products are taken pass by pass: 512 KiB, within an L2 cache.
_DIFFERENCES = 2**16


def reduce(values: Elements) -> Elements:
    """Reduces any uint64 values to canonical elements, in a fixed sequence of operations."""
    return _wrap(_fold(_fold(values)))


def add(a: Elements, b: Elements) -> Elements:
    """Adds elements, with numpy's broadcasting."""
    return _wrap(a + b)


def subtract(a: Elements, b: Elements) -> Elements:
    """Subtracts elements, with numpy's broadcasting."""
    return _wrap(a + (_P - b))


def multiply(a: Elements, b: Elements) -> Elements:
    """Multiplies elements, with numpy's broadcasting."""
    return _wrap(_fold(a * b))


def multiply_add(a: Elements, b: Elements, c: Elements) -> Elements:
    """Computes a·b + c of elements, with numpy's broadcasting."""
    return _wrap(_fold(a * b + c))


def _fold(values: Elements) -> Elements:
    """Adds the high bits to the low 31: congruent, and below 2P for values up to (P - 1)·P."""
    folded: Elements = (values & _P) + (values >> _BITS)
    return folded


def _wrap(values: Elements) -> Elements:
    """Takes P off values from P to 2P - 1; below, the difference wraps and is the larger one."""
    wrapped: Elements = np.minimum(values, values - _P)
    return wrapped


def power(base: Elements, exponent: int) -> Elements:
    """Raises elements to one public exponent, by squaring."""
    result = np.ones_like(base)
    for bit in f"{exponent:b}":
        result = multiply(result, result)
        if bit == "1":
            result = multiply(result, base)
    return result


def inverse(elements: Elements) -> Elements:
    """Inverts elements by Fermat's little theorem; zero, which has no inverse, gives zero."""
    return power(elements, P - 2)


def product(elements: Elements) -> Elements:
    """Multiplies along the last axis: shape (…, n) to (…)."""
    while elements.shape[-1] > 1:
        half = elements.shape[-1] // 2
        paired = multiply(elements[..., :half], elements[..., half : 2 * half])
        elements = np.concatenate([paired, elements[..., 2 * half :]], axis=-1)
    return elements[..., 0] if elements.shape[-1] else np.ones(elements.shape[:-1], np.uint64)


def matmul(left: Elements, right: Elements) -> Elements:
    """Multiplies matrices exactly, (r, k) by (…, k, n) to (…, r, n).

    The right factor may also be uint32, which saves a copy. Both hold canonical elements.
    """
    rows, terms = left.shape
    shifts = np.array([[[2]], [[1]], [[0]]], np.uint64) * np.uint64(_PIECE_BITS)
    total = np.zeros((*right.shape[:-2], rows, right.shape[-1]), np.uint64)
    for start in range(0, terms, _EXACT_TERMS):
        block = slice(start, start + _EXACT_TERMS)
        pieces = (left[:, block] >> shifts) & np.uint64(2**_PIECE_BITS - 1)
        stacked = pieces.reshape(_PIECES * rows, pieces.shape[-1]).astype(np.float64)
        sums = (stacked @ right[..., block, :].astype(np.float64)).astype(np.int64)
        high, middle, low = np.split(sums.view(np.uint64), _PIECES, axis=-2)
        # Horner's rule in 2^11; each sum is below 2^53 and each folded value below 2^32.
        joined = (_fold(high) << np.uint64(_PIECE_BITS)) + middle
        joined = (_fold(joined) << np.uint64(_PIECE_BITS)) + low
        total = add(total, reduce(joined))
    return total


def evaluate(coefficients: Elements, points: Elements) -> Elements:
    """Evaluates polynomials, (r, t) with the constant term first, at n points to (r, n).

    Paterson and Stockmeyer's scheme: about √t powers of each point, one matrix product, and a
    Horner loop of √t steps. The sequence of operations depends on the shapes alone.
    """
    rows, terms = coefficients.shape
    width = math.isqrt(terms - 1) + 1
    blocks = -(-terms // width)
    padded = np.zeros((rows, blocks * width), np.uint64)
    padded[:, :terms] = coefficients
    padded = padded.reshape(rows * blocks, width)

    values = np.empty((rows, points.size), np.uint64)
    columns = max(1, _TABLE_ELEMENTS // max(1, rows * blocks))
    for start in range(0, points.size, columns):
        part = slice(start, start + columns)
        values[:, part] = _evaluate(padded, blocks, points[part])
    return values


def _evaluate(chunks: Elements, blocks: int, points: Elements) -> Elements:
    """Evaluates polynomials that are cut into chunks of coefficients, (r·blocks, width)."""
    width = chunks.shape[1]
    powers = np.ones((width, points.size), np.uint64)
    for exponent in range(1, width):
        powers[exponent] = multiply(powers[exponent - 1], points)
    step = multiply(powers[-1], points)

    partial = matmul(chunks, powers).reshape(-1, blocks, points.size)
    value = partial[:, -1]
    for block in range(blocks - 2, -1, -1):
        value = multiply_add(value, step, partial[:, block])
    return value


def weighted_sums(weights: Elements, values: Elements) -> Elements:
    """Adds rows, each with its weight: (s, k) and (s, k, n) to (s, n).

    The values may also be uint32. Both are canonical, and k is at most 2^33.
    """
    return reduce(multiply(weights[..., None], values).sum(axis=-2, dtype=np.uint64))


def difference_products(points: Elements) -> Elements:
    """Returns Π_{j≠i} (x_j - x_i) for each point of each set: shape (…, n) to (…, n)."""
    size = points.shape[-1]
    sets = points.reshape(-1, size)
    products = np.empty(sets.size, np.uint64)
    rows = max(1, _DIFFERENCES // max(1, size))
    for start in range(0, sets.size, rows):
        which, own = np.divmod(np.arange(start, min(start + rows, sets.size)), size)
        differences = subtract(sets[which], sets[which, own, None])
        differences[np.arange(own.size), own] = 1
        products[start : start + rows] = product(differences)
    return products.reshape(points.shape)


def lagrange_at_zero(points: Elements) -> Elements:
    """Returns the weights λ_i with f(0) = Σ λ_i·f(x_i) for every f of degree below n.

    The points of a set are distinct and not zero: shape (…, n) to (…, n).
    """
    denominators = multiply(points, difference_products(points))
    return multiply(product(points)[..., None], inverse(denominators))
