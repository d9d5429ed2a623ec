"""X25519 by the Montgomery ladder of RFC 7748, section 5, and HKDF-SHA256 of RFC 5869."""

import hashlib
import hmac

P = 2**255 - 19


def multiply(scalar, point):
    """Returns scalar times the point with this u coordinate; both are 32 bytes."""
    k = bytearray(scalar)
    k[0] &= 248
    k[31] = (k[31] & 127) | 64
    k = int.from_bytes(k, "little")
    x1 = int.from_bytes(point, "little") % 2**255 % P
    x2, z2, x3, z3 = 1, 0, x1, 1
    for bit in range(254, -1, -1):
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb = d * a, c * b
        x3, z3 = (da + cb) ** 2 % P, x1 * (da - cb) ** 2 % P
        e = a * a - b * b
        x2, z2 = a * a * b * b % P, e * (a * a + 121665 * e) % P
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def public_key(seed):
    return multiply(seed, (9).to_bytes(32, "little"))


def hkdf(secret, salt, info, length):
    """Extracts and expands (RFC 5869, sections 2.2 and 2.3)."""
    key = hmac.digest(salt, secret, hashlib.sha256)
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([counter]), hashlib.sha256)
        out += block
        counter += 1
    return out[:length]
