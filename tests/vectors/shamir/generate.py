"""Writes shamir.json from the reference implementation.

Run `python -m tests.vectors.shamir.generate` in the root of the repository.
"""

import hashlib

from tests.reference import shamir
from tests.support.crypto import replay, write_vectors

CASES = [
    # name, secrets, threshold, points
    ("the smallest", [bytes(32)], 2, [1, 2]),
    ("all ones", [b"\xff" * 32], 3, [1, 2, 3, 4, 5]),
    ("two secrets", [bytes(range(32)), bytes(range(32, 64))], 4, [7, 3, 2**31 - 2, 1000, 12, 5]),
]


def content():
    valid = []
    for name, secrets, threshold, points in CASES:
        count = 4 * 9 * len(secrets) * (threshold - 1)
        random = hashlib.shake_256(name.encode()).digest(count)
        valid.append(case(name, secrets, threshold, points, random))
    # The word that is no field element, with and without its ignored top bit, is drawn again,
    # and again.
    no_elements = b"\xff\xff\xff\x7f" + b"\xff\xff\xff\xff"
    random = no_elements + bytes(28) + no_elements + bytes(4) + no_elements[:4] + bytes(range(4))
    valid.append(case("rejected words", [bytes(range(32))], 2, [1, 2, 3], random))

    shares = shamir.split([bytes(range(32))], 3, range(1, 8), replay(bytes(range(72))))[0]
    honest = [pack(share) for share in shares]
    decodable = [
        {"why": "none wrong", "shares": honest, "wrong": []},
        {"why": "two of seven", "shares": [*honest[:5], honest[0], honest[1]], "wrong": [5, 6]},
        {
            "why": "one limb wrong in each of two",
            "shares": [bump(shares[0], 0), *honest[1:6], bump(shares[6], 8)],
            "wrong": [0, 6],
        },
    ]
    invalid = [
        {"why": "three of seven wrong", "shares": [*honest[:4], *honest[:3]]},
        {
            "why": "three wrong, each in another limb",
            "shares": [bump(shares[i], i) if i < 3 else honest[i] for i in range(7)],
        },
        {"why": "another threshold's shares", "shares": steeper()},
    ]
    malformed = [
        {"why": "one byte", "share": "00", "index": 5},
        {"why": "35 bytes", "share": honest[0][:-2], "index": 5},
        {"why": "37 bytes", "share": honest[0] + "00", "index": 6},
        {"why": "a limb that is P", "share": "ffffff7f" + honest[0][8:], "index": 5},
        {"why": "a limb of 32 bits", "share": honest[0][:-8] + "00000080", "index": 5},
    ]
    return {
        "source": "tests/reference/shamir.py",
        "valid": valid,
        "decoding": {
            "threshold": 3,
            "points": list(range(1, 8)),
            "secret": bytes(range(32)).hex(),
            "valid": decodable,
            "invalid": invalid,
        },
        "malformed": malformed,
    }


def case(name, secrets, threshold, points, random):
    shares = shamir.split(secrets, threshold, points, replay(random))
    return {
        "name": name,
        "secrets": [secret.hex() for secret in secrets],
        "threshold": threshold,
        "points": points,
        "random": random.hex(),
        "shares": [[pack(share) for share in held] for held in shares],
    }


def steeper():
    shares = shamir.split([bytes(range(32))], 7, range(1, 8), replay(bytes(range(216))))[0]
    return [pack(share) for share in shares]


def pack(share):
    return b"".join(limb.to_bytes(4, "little") for limb in share).hex()


def bump(share, limb):
    return pack([(v + (i == limb)) % shamir.P for i, v in enumerate(share)])


if __name__ == "__main__":
    write_vectors("shamir", content())
