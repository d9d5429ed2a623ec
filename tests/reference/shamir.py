"""Shamir's sharing with Python integers, one multiplication at a time."""

from itertools import combinations

P = 2**31 - 1


def limbs(secret):
    value = int.from_bytes(secret, "little")
    return [(value >> (30 * i)) % 2**30 for i in range(9)]


def join(values):
    return sum(value << (30 * i) for i, value in enumerate(values)).to_bytes(32, "little")


def field_elements(random, count):
    """Reads field elements off `random`, a callable that returns bytes, rejecting the word P."""

    def words(number):
        data = random(4 * number)
        return [int.from_bytes(data[4 * i : 4 * i + 4], "little") % 2**31 for i in range(number)]

    elements = words(count)
    while rejected := [i for i, element in enumerate(elements) if element == P]:
        for i, word in zip(rejected, words(len(rejected)), strict=True):
            elements[i] = word
    return elements


def split(secrets, threshold, points, random):
    """Returns shares[secret][point][limb]."""
    coefficients = iter(field_elements(random, len(secrets) * 9 * (threshold - 1)))
    shares = [[[0] * 9 for _ in points] for _ in secrets]
    for s, secret in enumerate(secrets):
        for limb, constant in enumerate(limbs(secret)):
            polynomial = [constant] + [next(coefficients) for _ in range(threshold - 1)]
            for p, point in enumerate(points):
                shares[s][p][limb] = evaluate(polynomial, point)
    return shares


def evaluate(polynomial, point):
    return sum(c * pow(point, degree, P) for degree, c in enumerate(polynomial)) % P


def interpolate(points, values, at):
    """Lagrange's formula."""
    total = 0
    for i, (point, value) in enumerate(zip(points, values, strict=True)):
        weight = 1
        for j, other in enumerate(points):
            if i != j:
                weight = weight * (at - other) * pow(point - other, -1, P) % P
        total += value * weight
    return total % P


def reconstruct(shares, points, threshold):
    """Rebuilds one secret from shares[point][limb]."""
    chosen = points[:threshold]
    return join(
        [interpolate(chosen, [share[i] for share in shares[:threshold]], 0) for i in range(9)]
    )


def decode(shares, points, threshold):
    """Tries every set of `threshold` shares until enough others agree; None if none does."""
    allowed = (len(points) - threshold) // 2
    for chosen in combinations(range(len(points)), threshold):
        base = [points[i] for i in chosen]
        wrong = [
            p
            for p, point in enumerate(points)
            if any(
                interpolate(base, [shares[i][limb] for i in chosen], point) != shares[p][limb]
                for limb in range(9)
            )
        ]
        if len(wrong) <= allowed:
            values = [interpolate(base, [shares[i][k] for i in chosen], 0) for k in range(9)]
            # A constant term beyond 30 bits, or 16 in the last limb, is no secret's.
            if any(value >> 30 for value in values) or values[8] >> 16:
                return None
            return join(values), wrong
    return None
