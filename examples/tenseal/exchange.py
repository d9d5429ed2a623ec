"""A client that has plain TenSEAL takes part in a CKKS sum that trustees open.

    pip install 'finsecure[lattice,interop]'
    python examples/tenseal/exchange.py

It encrypts under a key of which three trustees hold shares, and is one of three in a sum that two
of them open.
"""

import os

import numpy as np
import tenseal
from finsecure_crypto.encoding import CountSection, RealSection, VectorLayout, rounding_generator
from finsecure_crypto.homomorphic import lattice_ceremony, tenseal_format
from finsecure_crypto.homomorphic.ckks import CkksKey, read_key
from finsecure_crypto.homomorphic.lattice.keys import LatticeShare
from finsecure_crypto.homomorphic.mode import Mode

LAYOUT = VectorLayout(
    (CountSection("weight", 1, 10_000), RealSection("update", 10_000, 0.5, 16)), cohort=10
)
HOLDERS = (1, 2, 3)


def make_key() -> tuple[CkksKey, dict[int, LatticeShare]]:
    """Runs the ceremony of three trustees, in one process for show."""
    context = os.urandom(32)
    begun = {h: lattice_ceremony.begin(Mode.CKKS, h, context) for h in HOLDERS}
    commitments = {h: message for h, (_, message) in begun.items()}
    revealed = {h: state.reveal(commitments) for h, (state, _) in begun.items()}
    openings = {h: message for h, (_, message) in revealed.items()}
    given = {h: state.contribute(openings) for h, (state, _) in revealed.items()}
    terms = {h: message for h, (_, message, _) in given.items()}
    handed = {lattice_ceremony.partner(h): handover for h, (_, _, handover) in given.items()}
    done = {h: state.finish(terms, handed[h]) for h, (state, _, _) in given.items()}
    confirmations = {h: message for h, (_, message) in done.items()}
    made = {h: state.confirm(confirmations) for h, (state, _) in done.items()}
    key = read_key(made[1][0].serialise())
    return key, {h: share for h, (_, share) in made.items()}


def encrypt_with_tenseal(context_bytes: bytes, slots: list[float]) -> bytes:
    """All that a client with plain TenSEAL does."""
    context = tenseal.context_from(context_bytes)
    return bytes(tenseal.ckks_vector(context, slots).serialize())


def trustees_open_what_tenseal_encrypted() -> tuple[int, float]:
    """One input from TenSEAL and two from FinSecure; returns both sums, the second as its error."""
    key, shares = make_key()
    rng = np.random.default_rng(1)
    inputs = [
        {"weight": np.array([100 + client]), "update": rng.uniform(-0.5, 0.5, 10_000)}
        for client in range(3)
    ]
    # Fractions of the bounds, in order; counts as digits of 16 bits.
    slots = tenseal_format.spread(key, LAYOUT, inputs[0], rounding_generator())
    vector = encrypt_with_tenseal(tenseal_format.write_context(key), slots)
    total = tenseal_format.read_vector(key, LAYOUT, vector)
    for given in inputs[1:]:
        total = key.add(total, b"".join(key.encrypt(LAYOUT, given, rounding_generator())))
    request = os.urandom(32)
    partials = {h: shares[h].partial(key, total, request) for h in (1, 3)}
    sums = key.combine(LAYOUT, 3, total, partials, request)
    plain = sum(given["update"] for given in inputs)
    return int(sums["weight"][0]), float(np.max(np.abs(sums["update"] - plain)))


if __name__ == "__main__":
    weight, error = trustees_open_what_tenseal_encrypted()
    print(f"one TenSEAL client and two of FinSecure: weights 100 + 101 + 102 = {weight}")
    print(f"and the sum of their updates is off by {error:.1e}")
