"""Ed25519 signing as RFC 8032, section 5.1, writes it."""

import hashlib

Q = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, Q) % Q


def _add(a, b):
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, Q)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, Q)
    return x % Q, y % Q


def _times(point, scalar):
    result = (0, 1)
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def _base():
    y = 4 * pow(5, -1, Q) % Q
    square = (y * y - 1) * pow(D * y * y + 1, -1, Q) % Q
    x = pow(square, (Q + 3) // 8, Q)
    if (x * x - square) % Q:
        x = x * pow(2, (Q - 1) // 4, Q) % Q
    return (Q - x if x % 2 else x), y


BASE = _base()


def _encode(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def _expand(seed):
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little")
    return (scalar & ((1 << 254) - 8)) | (1 << 254), digest[32:]


def public_key(seed):
    return _encode(_times(BASE, _expand(seed)[0]))


def sign(seed, message):
    scalar, prefix = _expand(seed)
    nonce = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % ORDER
    commitment = _encode(_times(BASE, nonce))
    hashed = hashlib.sha512(commitment + public_key(seed) + message).digest()
    challenge = int.from_bytes(hashed, "little") % ORDER
    return commitment + ((nonce + challenge * scalar) % ORDER).to_bytes(32, "little")
