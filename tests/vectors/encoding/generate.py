"""Writes encoding.json from the reference implementation.

Run `python -m tests.vectors.encoding.generate` in the root of the repository.
"""

import numpy as np

from tests.reference.encoding import decode_integers, encode
from tests.support.crypto import write_vectors

SEED = bytes(range(32))
NOISE = [0.0, 0.25, 0.5, 0.75, 1 - 2**-53]
CASES = [
    # name, sections, cohort, values
    ("one count", [("count", "weight", 1, 1)], 1, {"weight": [1]}),
    (
        "16 bits for 32 clients: three lanes a word",
        [("real", "update", 5, 0.5, 16)],
        32,
        {"update": [0.0, -9.0, -0.5, 0.123, 9.0]},
    ),
    (
        "a training vector",
        [
            ("count", "weight", 1, 1000),
            ("real", "update", 7, 0.1, 8),
            ("count", "examples", 3, 2**32 - 1),
            ("count", "loss_q16", 1, 2**46),
        ],
        200,
        {
            "weight": [999],
            "update": [0.1, -0.1, 0.0, 0.05, -0.05, 1e-9, 0.0999],
            "examples": [2**32 - 1, 0, 17],
            "loss_q16": [2**46],
        },
    ),
    (
        "a lane of 64 bits",
        [("real", "moments", 2, 1.0, 40), ("count", "wide", 2, 2**54 - 1)],
        1024,
        {"moments": [1.0, 2**-40], "wide": [2**54 - 1, 1]},
    ),
]
REFUSED = [
    ("a lane of 65 bits", [("count", "c", 1, 2**54)], 1024, "LANE_OVERFLOW"),
    ("one client too many", [("count", "c", 1, 2**54 - 1)], 1025, "LANE_OVERFLOW"),
    ("no section", [], 2, "LAYOUT_INVALID"),
    ("no client", [("count", "c", 1, 1)], 0, "LAYOUT_INVALID"),
    ("a name twice", [("count", "c", 1, 1), ("count", "c", 1, 1)], 2, "LAYOUT_INVALID"),
    ("no name", [("count", "", 1, 1)], 2, "LAYOUT_INVALID"),
    ("no value", [("count", "c", 0, 1)], 2, "LAYOUT_INVALID"),
    ("a maximum of 0", [("count", "c", 1, 0)], 2, "LAYOUT_INVALID"),
    ("a bound of 0", [("real", "r", 1, 0.0, 8)], 2, "LAYOUT_INVALID"),
    ("a bound below 0", [("real", "r", 1, -1.0, 8)], 2, "LAYOUT_INVALID"),
    ("one bit", [("real", "r", 1, 1.0, 1)], 2, "LAYOUT_INVALID"),
    ("41 bits", [("real", "r", 1, 1.0, 41)], 2, "LAYOUT_INVALID"),
    ("beyond 2^36 bytes", [("count", "c", 2**33 + 1, 2**63)], 1, "LAYOUT_INVALID"),
]


def content():
    valid = []
    for name, sections, cohort, values in CASES:
        reals = sum(section[2] for section in sections if section[0] == "real")
        noise = (NOISE * reals)[:reals]
        words = encode(sections, cohort, values, iter(noise))
        integers = decode_integers(sections, cohort, words, 1)
        valid.append(
            {
                "name": name,
                "sections": [list(section) for section in sections],
                "cohort": cohort,
                "values": {key: [repr(v) for v in given] for key, given in values.items()},
                "noise": [n.hex() for n in noise],
                "words": [str(word) for word in words],
                "integers": {key: [str(v) for v in sums] for key, sums in integers.items()},
            }
        )
    invalid = [
        {"why": why, "sections": [list(s) for s in sections], "cohort": cohort, "code": code}
        for why, sections, cohort, code in REFUSED
    ]
    generator = np.random.Generator(np.random.PCG64DXSM(int.from_bytes(SEED, "little")))
    rounding = {"seed": SEED.hex(), "noise": [generator.random().hex() for _ in range(8)]}
    return {
        "source": "tests/reference/encoding.py",
        "valid": valid,
        "invalid": invalid,
        "rounding": rounding,
    }


if __name__ == "__main__":
    write_vectors("encoding", content())
