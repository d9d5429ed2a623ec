"""Error-correcting interpolation: polynomials through values of which some are wrong.

S. Gao, *A new algorithm for decoding Reed-Solomon codes*, 2002, algorithm 1: shares are a
Reed-Solomon codeword, so up to (m - t)/2 wrong ones of m are found. Interpolate all shares,
run Euclid's algorithm half-way against Π(x - x_i), and divide. Polynomials are uint64 arrays of
coefficients, the constant term first and the last one not zero. This runs on the server and only
after a rebuilt secret failed its check, so its time may depend on the shares.
"""

import numpy as np

from finsecure_crypto import field
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.field import Elements, P

_ROWS = 256  # coefficients of the interpolation made at once; bounds its memory


def decode(values: Elements, points: Elements, threshold: int) -> Elements:
    """Finds, for each list of values, the polynomial that all but (m - t)//2 of them lie on.

    Args:
        values: shape (r, m), m >= threshold.
        points: shape (m,), distinct.
        threshold: t; the polynomials have a degree below it.

    Returns:
        Coefficients, shape (r, t), the constant term first.

    Raises:
        IntegrityError: `SHARES_NOT_DECODABLE` when there is no such polynomial.
    """
    vanishing = _vanishing(points)
    interpolated = _interpolate(points, values, vanishing)
    coefficients = np.zeros((len(values), threshold), np.uint64)
    for row, polynomial in zip(coefficients, interpolated, strict=True):
        found = _closest(vanishing, _trim(polynomial), threshold)
        row[: found.size] = found
    return coefficients


def not_decodable() -> IntegrityError:
    """Makes the error for a secret of which too many shares are wrong; of unnamed peers."""
    return IntegrityError(
        "SHARES_NOT_DECODABLE",
        "too many shares of one secret are wrong to tell which; drop this round attempt",
    )


def _vanishing(points: Elements) -> Elements:
    """Returns Π (x - x_i), of degree m."""
    polynomial = np.zeros(points.size + 1, np.uint64)
    polynomial[0] = 1
    for degree, point in enumerate(points):
        lower = polynomial[: degree + 1].copy()
        polynomial[1 : degree + 2] = lower
        polynomial[0] = 0
        polynomial[: degree + 1] = field.subtract(
            polynomial[: degree + 1], field.multiply(lower, point)
        )
    return polynomial


def _interpolate(points: Elements, values: Elements, vanishing: Elements) -> Elements:
    """Interpolates r lists of values, (r, m), by polynomials of degree below m, (r, m).

    Lagrange's formula Σ y_i·w_i·g(x)/(x - x_i), all quotients by synthetic division side by side,
    from the highest coefficient down.
    """
    count = points.size
    # The product of x_j - x_i has the sign (-1)^(m-1) against that of x_i - x_j.
    weights = field.inverse(field.difference_products(points))
    if count % 2 == 0:
        weights = field.subtract(np.zeros_like(weights), weights)
    weighted = np.ascontiguousarray(field.multiply(values, weights).T)
    polynomials = np.empty((values.shape[0], count), np.uint64)
    quotient = np.zeros(count, np.uint64)
    for end in range(count, 0, -_ROWS):
        start = max(0, end - _ROWS)
        rows = np.empty((end - start, count), np.uint64)
        for degree in range(end - 1, start - 1, -1):
            quotient = field.multiply_add(quotient, points, vanishing[degree + 1])
            rows[degree - start] = quotient
        polynomials[:, start:end] = field.matmul(rows, weighted).T
    return polynomials


def _closest(vanishing: Elements, interpolated: Elements, threshold: int) -> Elements:
    """Finds the polynomial of degree below t that most shares lie on (Gao, steps 2 and 3)."""
    count = vanishing.size - 1
    older, newer = vanishing, interpolated
    older_factor, newer_factor = np.zeros(0, np.uint64), np.ones(1, np.uint64)
    while 2 * (newer.size - 1) >= count + threshold:
        quotient, remainder = _divide(older, newer)
        older, newer = newer, remainder
        product = _convolve(quotient, newer_factor)
        older_factor, newer_factor = newer_factor, _subtract(older_factor, product)
    found, remainder = _divide(newer, newer_factor)
    if remainder.size or found.size > threshold:
        raise not_decodable()
    return found


def _divide(dividend: Elements, divisor: Elements) -> tuple[Elements, Elements]:
    remainder = dividend.copy()
    degree = divisor.size - 1
    length = max(0, dividend.size - degree)
    quotient = np.zeros(length, np.uint64)
    lead = np.uint64(pow(int(divisor[-1]), P - 2, P))
    for shift in range(length - 1, -1, -1):
        factor = remainder[shift + degree] * lead % np.uint64(P)
        quotient[shift] = factor
        window = remainder[shift : shift + degree + 1]
        window[:] = field.subtract(window, field.multiply(divisor, factor))
    return quotient, _trim(remainder)


def _convolve(a: Elements, b: Elements) -> Elements:
    result = np.zeros(a.size + b.size - 1, np.uint64)
    for shift, factor in enumerate(a):
        window = result[shift : shift + b.size]
        window[:] = field.add(window, field.multiply(b, factor))
    return result


def _subtract(a: Elements, b: Elements) -> Elements:
    result = np.zeros(max(a.size, b.size), np.uint64)
    result[: a.size] = a
    result[: b.size] = field.subtract(result[: b.size], b)
    return _trim(result)


def _trim(polynomial: Elements) -> Elements:
    nonzero = np.flatnonzero(polynomial)
    return polynomial[: nonzero[-1] + 1] if nonzero.size else polynomial[:0]
