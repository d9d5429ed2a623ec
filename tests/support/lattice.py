"""What the tests of the lattice modes share: ceremonies in one process, and keys from them."""

from functools import cache
from itertools import combinations

import numpy as np
from finsecure_crypto.homomorphic import lattice_ceremony, registry
from finsecure_crypto.homomorphic.lattice import canonical, sampling
from finsecure_crypto.homomorphic.lattice.opening import predecessor
from finsecure_crypto.homomorphic.mode import Mode

from tests.support.crypto import seeded

MODES = (Mode.BGV, Mode.CKKS)
HOLDERS = (1, 2, 3)
PAIRS = tuple(combinations(HOLDERS, 2))
CONTEXT = bytes(range(32))


def commit(mode, seed="ceremony", context=CONTEXT):
    """Begins a ceremony: the holders' states and their commitments."""
    sent = {h: lattice_ceremony.begin(mode, h, context, seeded(f"{seed}{h}")) for h in HOLDERS}
    return {h: s for h, (s, _) in sent.items()}, {h: m for h, (_, m) in sent.items()}


def reveal(states, commitments):
    sent = {h: states[h].reveal(commitments) for h in HOLDERS}
    return {h: s for h, (s, _) in sent.items()}, {h: m for h, (_, m) in sent.items()}


def contribute(states, openings, seed="components"):
    sent = {h: states[h].contribute(openings, seeded(f"{seed}{h}")) for h in HOLDERS}
    return (
        {h: s for h, (s, _, _) in sent.items()},
        {h: m for h, (_, m, _) in sent.items()},
        {h: handover for h, (_, _, handover) in sent.items()},
    )


def finish(states, contributions, handovers):
    sent = {h: states[h].finish(contributions, handovers[predecessor(h)]) for h in HOLDERS}
    return {h: s for h, (s, _) in sent.items()}, {h: m for h, (_, m) in sent.items()}


@cache
def ceremony(mode, seed="ceremony"):
    """Makes a key and its three shares, each read back from its bytes."""
    states, commitments = commit(mode, seed)
    states, openings = reveal(states, commitments)
    states, contributions, handovers = contribute(states, openings, seed)
    states, confirmations = finish(states, contributions, handovers)
    made = {h: states[h].confirm(confirmations) for h in HOLDERS}
    key = registry.load_key(mode, made[1][0].serialise())
    return key, {h: registry.load_share(mode, made[h][1].serialise()) for h in HOLDERS}


def whole_secret(key, shares):
    """Returns the secret that no holder has, as values over the primes of a ciphertext."""
    ring = key.system.ring
    parts = [sampling.coefficients(shares[h].components[0].coefficients) for h in HOLDERS]
    return ring.forward(ring.reduce(sum(parts)[None]))[0]


def opened(key, shares, run):
    """Opens a run without any noise but its own, as the whole secret would: (m, primes, N)."""
    pairs = key.pairs(run).astype(np.uint64)
    ring = key.system.ring
    return ring.add(pairs[:, 0], ring.multiply(pairs[:, 1], whole_secret(key, shares)))


def uniform_run(key, count, seed=b"ciphertexts"):
    """Makes a run of uniformly random ciphertexts that stays the same."""
    parameters = key.system.parameters
    pairs = [
        [
            sampling.uniform(
                seed + bytes([index, part]), parameters.degree, parameters.ciphertext_primes
            )
            for part in range(2)
        ]
        for index in range(count)
    ]
    return canonical.write(parameters, np.array(pairs))
