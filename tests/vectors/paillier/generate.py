"""Writes paillier.json from the reference implementation, and the primes that all tests use.

Run `python -m tests.vectors.paillier.generate` in the root of the repository.

The primes of primes.json come from seeds that stand here: they are FOR TESTS ONLY. 512 bits are a
size that no public interface takes.
"""

import json

from finsecure_crypto.homomorphic.paillier.primes import safe_prime

from tests.reference import paillier
from tests.support.crypto import VECTORS, replay, seeded, write_vectors

PRIMES = VECTORS / "paillier" / "primes.json"
SIZES = (512, 2048, 3072)
CONTEXT = bytes(range(32))
CASES = [
    # name, bits, exponent bits, holders, threshold, who opens, clients' words
    (
        "2 of 3 at 2048 bits, two clients of two ciphertexts",
        2048,
        448,
        3,
        2,
        [1, 3],
        [
            [2**63, *range(31), 2**40],
            [2**62, *range(100, 131), 1],
        ],
    ),
    (
        "3 of 5 at 512 bits, conservative, one client, the largest words",
        512,
        256,
        5,
        3,
        [2, 4, 5],
        [[2**64 - 1] * 9],
    ),
]
WINDOW = 10


def primes():
    return {
        str(bits): [int(safe_prime(bits // 2, seeded(f"test only {bits} {i}"))) for i in range(2)]
        for bits in SIZES
    }


def content():
    known = json.loads(PRIMES.read_text("utf-8"))
    cases = [case(known, *each) for each in CASES]
    return {"source": "tests/reference/paillier.py", "valid": cases}


def case(known, name, bits, exponent_bits, holders, threshold, opening, clients):
    p, q = known[str(bits)]
    n, size = p * q, bits // 4
    secrets = paillier.deal(p, q, holders, threshold, seeded(name))
    key = paillier.public_key(n, holders, threshold, exponent_bits, secrets)
    inputs, proofs = [], []
    for index, words in enumerate(clients):
        plaintexts = paillier.pack(words, (bits - 1) // 64)
        randomness = seeded(f"{name}, client {index}")
        digits = -(-exponent_bits // WINDOW)
        stream = replay(randomness(2 * digits * len(plaintexts)))
        exponents = [paillier.exponent(stream, digits, WINDOW) for _ in plaintexts]
        inputs.append(
            [paillier.encrypt(n, m, a) for m, a in zip(plaintexts, exponents, strict=True)]
        )
        prover = seeded(f"{name}, proof {index}")
        proofs.append(
            paillier.plaintext_proof(
                n, key, inputs[-1], plaintexts, exponents, binding(index), prover
            )
        )
    total = inputs[0]
    for each in inputs[1:]:
        total = [a * b % (n * n) for a, b in zip(total, each, strict=True)]
    partials = {
        holder: paillier.partial(
            n, holders, key, holder, secrets[holder - 1], total, CONTEXT, seeded(f"{name} {holder}")
        )
        for holder in opening
    }
    opened = []
    for i in range(len(total)):
        powers = {
            holder: paillier.number(data[size * i : size * (i + 1)])
            for holder, data in partials.items()
        }
        opened.append(paillier.combine(n, holders, powers))
    assert opened == [paillier.decrypt(p, q, c) for c in total]
    return {
        "name": name,
        "bits": bits,
        "exponent_bits": exponent_bits,
        "holders": holders,
        "threshold": threshold,
        "window": WINDOW,
        "key": key.hex(),
        "key_digest": paillier.key_digest(key).hex(),
        "shares": [paillier.share(key, i, s).hex() for i, s in enumerate(secrets, 1)],
        "words": clients,
        "inputs": [run(each, size) for each in inputs],
        "bindings": [binding(index).hex() for index in range(len(clients))],
        "proofs": [proof.hex() for proof in proofs],
        "refused_proofs": refused(n, key, inputs[0], proofs[0]),
        "total": run(total, size),
        "context": CONTEXT.hex(),
        "partials": {str(holder): data.hex() for holder, data in partials.items()},
        "plaintexts": opened,
    }


def binding(index):
    return bytes([index]) * 32


def refused(n, key, ciphertexts, proof):
    """Proofs of the first input that do not hold, with the bindings for which they do not."""
    end = 32 + paillier.size_of(n)
    plaintext = paillier.number(proof[32:end])
    size, rest = end - 32, len(proof) - end
    changed = {
        "another binding": (proof, binding(255)),
        "another seed": (bytes([proof[0] ^ 1]) + proof[1:], binding(0)),
        "another plaintext": (
            proof[:32] + paillier.octets((plaintext + 1) % n, size) + proof[end:],
            binding(0),
        ),
        "a plaintext of n": (proof[:32] + paillier.octets(n, size) + proof[end:], binding(0)),
        "the largest exponent": (proof[:end] + b"\xff" * rest, binding(0)),
        "nothing": (bytes(len(proof)), binding(0)),
    }
    for data, bound in changed.values():
        assert not paillier.plaintext_proof_holds(n, key, ciphertexts, bound, data)
    return [
        {"name": name, "proof": data.hex(), "binding": bound.hex()}
        for name, (data, bound) in changed.items()
    ]


def run(ciphertexts, size):
    return b"".join(paillier.octets(c, size) for c in ciphertexts).hex()


if __name__ == "__main__":
    PRIMES.write_text(json.dumps(primes(), indent=1) + "\n", "utf-8")
    write_vectors("paillier", content())
