"""Writes masks.json from the reference implementation.

Run `python -m tests.vectors.masks.generate` in the root of the repository.
"""

from tests.reference.masks import apply
from tests.support.crypto import write_vectors

KEYS = [bytes(16), bytes(range(16)), b"\xff" * 16]
CASES = [
    # vector, keys and signs, first word
    ([0, 0, 0, 0], [(KEYS[0], 1)], 0),
    ([0, 0, 0, 0], [(KEYS[0], -1)], 0),
    ([0, 0, 0], [(KEYS[1], 1)], 2),
    ([1, 2**64 - 1, 2**63], [(KEYS[0], 1), (KEYS[1], -1), (KEYS[2], 1)], 0),
    ([5, 6], [(KEYS[2], 1), (KEYS[2], -1)], 6),
    ([0, 0], [(KEYS[1], 1)], 2**33 - 2),
    ([7, 8, 9], [], 0),
]


def content():
    valid = [
        {
            "vector": [str(word) for word in vector],
            "keys": [{"key": key.hex(), "sign": sign} for key, sign in keys],
            "first_word": first,
            "masked": [str(word) for word in apply(vector, keys, first)],
        }
        for vector, keys, first in CASES
    ]
    invalid = [
        {"why": "an odd first word", "words": 2, "key": "00" * 16, "sign": 1, "first_word": 1},
        {"why": "a first word below 0", "words": 2, "key": "00" * 16, "sign": 1, "first_word": -2},
        {
            "why": "beyond 2^36 bytes",
            "words": 3,
            "key": "00" * 16,
            "sign": 1,
            "first_word": 2**33 - 2,
        },
        {"why": "a key of 15 bytes", "words": 2, "key": "00" * 15, "sign": 1, "first_word": 0},
        {"why": "a key of 32 bytes", "words": 2, "key": "00" * 32, "sign": 1, "first_word": 0},
        {"why": "a sign of 0", "words": 2, "key": "00" * 16, "sign": 0, "first_word": 0},
    ]
    return {"source": "tests/reference/masks.py", "valid": valid, "invalid": invalid}


if __name__ == "__main__":
    write_vectors("masks", content())
