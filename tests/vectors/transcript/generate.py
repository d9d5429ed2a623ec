"""Writes transcript.json from the reference implementation.

Run `python -m tests.vectors.transcript.generate` in the root of the repository.
"""

from tests.reference.transcript import digest, encode
from tests.support.crypto import write_vectors

CASES = [
    ("context", []),
    ("context", [""]),
    ("context", [b""]),
    ("context", [0]),
    ("context", [1]),
    ("context", ["\x01"]),
    ("context", [b"\x01"]),
    ("context", ["ab", "c"]),
    ("context", ["a", "bc"]),
    ("contextab", ["c"]),
    ("share-keys", ["lending", 255, 256, 2**64, bytes(range(32)), "größe"]),
]
KINDS = {bytes: "bytes", str: "text", int: "integer"}


def content():
    valid = [
        {
            "label": label,
            "parts": [{KINDS[type(p)]: p.hex() if isinstance(p, bytes) else str(p)} for p in parts],
            "encoding": encode(label, *parts).hex(),
            "digest": digest(label, *parts).hex(),
        }
        for label, parts in CASES
    ]
    return {"source": "tests/reference/transcript.py", "valid": valid}


if __name__ == "__main__":
    write_vectors("transcript", content())
