"""A ceremony and a partial decryption of each mode, byte for byte those of the reference."""

import hashlib

import numpy as np
import pytest
from finsecure_crypto.homomorphic import lattice_ceremony
from finsecure_crypto.homomorphic.lattice import canonical, sampling
from finsecure_crypto.homomorphic.lattice.parameters import OF_MODE
from finsecure_crypto.homomorphic.mode import Mode

from tests.reference import lattice as reference
from tests.support.crypto import seeded, vectors
from tests.support.lattice import HOLDERS, finish, reveal

VECTORS = vectors("lattice")["valid"]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["mode"])
def test_ceremony_and_partials_are_those_of_the_reference(vector):
    mode, context = Mode(vector["mode"]), bytes.fromhex(vector["context"])
    begun = {
        h: lattice_ceremony.begin(mode, h, context, seeded(f"vector begin {h}")) for h in HOLDERS
    }
    commitments = {h: message for h, (_, message) in begun.items()}
    assert [commitments[h].content.hex() for h in HOLDERS] == vector["commitments"]
    states, openings = reveal({h: state for h, (state, _) in begun.items()}, commitments)
    given = {h: states[h].contribute(openings, seeded(f"vector contribute {h}")) for h in HOLDERS}
    terms = {h: message for h, (_, message, _) in given.items()}
    assert [sha256(terms[h].content) for h in HOLDERS] == vector["contributions_sha256"]
    handovers = {h: handover for h, (_, _, handover) in given.items()}
    states, confirmations = finish({h: s for h, (s, _, _) in given.items()}, terms, handovers)
    made = {h: states[h].confirm(confirmations) for h in HOLDERS}
    key = made[1][0]
    assert key.seed.hex() == vector["seed"]
    assert key.serialise().startswith(vector["key_head"].encode())
    assert key.digest().hex() == vector["key_digest"]
    shares = {h: share for h, (_, share) in made.items()}
    digests = [sha256(shares[h].serialise().expose()) for h in HOLDERS]
    assert digests == vector["shares_sha256"]
    parameters = OF_MODE[mode]
    pair = np.stack(
        [
            sampling.uniform(seed, parameters.degree, parameters.ciphertext_primes)
            for seed in (b"c0", b"c1")
        ]
    )
    run = canonical.write(parameters, pair[None])
    assert (run[:32].hex(), sha256(run)) == (
        vector["ciphertext_start"],
        vector["ciphertext_sha256"],
    )
    partials = [sha256(shares[h].partial(key, run, bytes(32))) for h in HOLDERS]
    assert partials == vector["partials_sha256"]


def test_the_reference_agrees_with_its_own_definition():
    prime, rng = OF_MODE[Mode.BGV].primes[0], np.random.default_rng(1)
    for n in (2, 8, 32):
        a = rng.integers(0, prime, n).tolist()
        assert reference.fast_transform(a, prime) == reference.transform(a, prime)
