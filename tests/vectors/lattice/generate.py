"""Writes lattice.json from the reference implementation; takes a minute.

Run `python -m tests.vectors.lattice.generate` in the root of the repository.
"""

import hashlib

from tests.reference import lattice, transcript
from tests.support.crypto import seeded, write_vectors

CONTEXT = bytes(range(32))
HOLDERS = (1, 2, 3)
MODES = {
    # mode: N, primes, factor of the noise, bits of a word, spare bits, scale
    "bgv": (4096, (2147295233, 2147352577, 2147377153, 40961), 1073692673, 32, 1, "0x1.0p+0"),
    "ckks": (
        8192,
        (1152921504606683137, 1152921504606748673, 1152921504606830593),
        1,
        64,
        4,
        "0x1.0p+96",
    ),
}


def content():
    return {"source": "tests/reference/lattice.py", "valid": [case(mode) for mode in MODES]}


def case(mode):
    n, primes, factor, word_bits, spare_bits, _ = MODES[mode]
    word_bytes = word_bits // 8
    seeds = {h: seeded(f"vector begin {h}")(32) for h in HOLDERS}
    joint = transcript.digest("lattice-common", CONTEXT, mode, *seeds.values())
    secrets, floods, terms = {}, {}, {}
    for h in HOLDERS:
        randomness = seeded(f"vector contribute {h}")
        secrets[h] = lattice.ternary(randomness, n)
        floods[h] = randomness(32)
        errors = lattice.noise(randomness(6 * n), n)
        terms[h] = lattice.contribution(joint, secrets[h], errors, primes, factor, word_bytes)
    key = head(mode) + joint + added(terms.values(), n, primes, word_bytes)
    digest = transcript.digest("encryption-key", mode, key)
    ciphertext = [
        [lattice.uniform(part, n, prime) for prime in primes[:-1]] for part in (b"c0", b"c1")
    ]
    products = {
        h: lattice.partial(
            ciphertext[1],
            secrets[h],
            lattice.smudging(floods[h], ciphertext[1], word_bytes, n),
            primes[:-1],
            factor,
        )
        for h in HOLDERS
    }

    def packed(polynomials):
        return b"".join(
            lattice.pack(row, word_bits, spare_bits) for rows in polynomials for row in rows
        )

    def share(h):
        before = (h - 2) % 3 + 1
        components = floods[h] + secrets[h] + floods[before] + secrets[before]
        return f"finsecure lattice share 1;{mode}\n".encode() + bytes([h]) + digest + components

    return {
        "mode": mode,
        "context": CONTEXT.hex(),
        "commitments": [
            transcript.digest("lattice-seed", CONTEXT, mode, h, seeds[h]).hex() for h in HOLDERS
        ],
        "seed": joint.hex(),
        "contributions_sha256": [sha256(terms[h]) for h in HOLDERS],
        "key_head": head(mode).decode(),
        "key_digest": digest.hex(),
        "shares_sha256": [sha256(share(h)) for h in HOLDERS],
        "ciphertext_sha256": sha256(packed(ciphertext)),
        "ciphertext_start": packed(ciphertext)[:32].hex(),
        "partials_sha256": [
            sha256(packed([products[h], products[(h - 2) % 3 + 1]])) for h in HOLDERS
        ],
    }


def head(mode):
    n, primes, factor, _, _, scale = MODES[mode]
    scale = float.fromhex(scale).hex()
    return (
        f"finsecure lattice key 1;{mode};N={n};q={','.join(map(str, primes))};t={factor};"
        f"scale={scale};2 of 3\n"
    ).encode()


def added(terms, n, primes, word_bytes):
    total = b""
    for row, prime in enumerate(primes):
        for i in range(n):
            at = (row * n + i) * word_bytes
            value = sum(int.from_bytes(term[at : at + word_bytes], "little") for term in terms)
            total += (value % prime).to_bytes(word_bytes, "little")
    return total


def sha256(data):
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    write_vectors("lattice", content())
