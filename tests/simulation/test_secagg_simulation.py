"""Whole rounds over a network that loses, delays, duplicates and reorders."""

import dataclasses
import random

import numpy as np
import pytest
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.secagg.parameters import Profile, SparseGraph
from finsecure_crypto.secagg.phases import STEPS

from tests.support.faulty_network import Faults, Network
from tests.support.secagg import Federation, make_inputs, make_parameters, plain_sum
from tests.support.simulation import Client, Server, restore

GRAPHS = {
    "complete": (10, None),
    "sparse": (30, SparseGraph(corrupt_fraction=0.05, dropout_fraction=0.2)),
}
NETWORKS = {
    "perfect": Faults(),
    "lossy": Faults(loss=0.3),
    "duplicating": Faults(duplication=0.5),
    "slow and reordering": Faults(longest_delay=15.0),
    "all at once": Faults(loss=0.25, duplication=0.25, longest_delay=8.0),
    "hardly a network": Faults(loss=0.85, duplication=0.3, longest_delay=30.0),
}


def simulate(graph, faults, seed, crashes=0):
    size, sparse = GRAPHS[graph]
    parameters = make_parameters(size, graph=sparse, profile=Profile.SEMI_HONEST)
    assert parameters.thresholds(size).complete is (sparse is None)
    federation = Federation.of(size)
    names = list(federation.identities)
    inputs = make_inputs(parameters, names, seed)
    rng = random.Random(seed)
    phases = [step.phase for step in STEPS]
    crashing = {name: rng.choice(phases) for name in rng.sample(names, crashes)}
    clients = {
        name: Client(name, parameters, federation, inputs[name], crashing.get(name))
        for name in names
    }
    network = Network(faults, seed)
    server = Server(network, parameters, federation, clients)
    network.run(until=1000.0)
    assert server.over
    return parameters, federation, inputs, server


def check(inputs, server):
    """The exact sum of exactly those whose vectors were taken, or a clean end."""
    if server.failure is not None:
        assert server.failure.code.startswith(("TOO_FEW_", "COHORT_TOO_SMALL"))
        return
    assert set(server.unmasking.survivors) == set(server.summed)
    assert server.unmasking.blamed == ()
    assert np.array_equal(server.total, plain_sum(inputs, server.unmasking.survivors))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("faults", NETWORKS)
@pytest.mark.parametrize("graph", GRAPHS)
def test_exact_sum_or_clean_end(graph, faults, seed):
    _, _, inputs, server = simulate(graph, NETWORKS[faults], seed)
    check(inputs, server)
    if faults != "hardly a network":
        assert server.unmasking is not None
        assert server.unmasking.contributors == len(inputs)
    # Lateness and repetition are no offence.
    assert {error.code for error in server.refused} <= {"OUT_OF_PHASE", "CLIENT_NOT_EXPECTED"}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("graph", GRAPHS)
def test_clients_that_restart_drop_out_and_the_round_goes_on(graph, seed):
    faults = dataclasses.replace(NETWORKS["all at once"], loss=0.1)
    _, _, inputs, server = simulate(graph, faults, seed, crashes=3)
    check(inputs, server)
    assert server.unmasking is not None
    assert server.unmasking.contributors >= len(inputs) - 3


@pytest.mark.parametrize("graph", GRAPHS)
def test_so_many_restarts_end_the_round(graph):
    size = GRAPHS[graph][0]
    _, _, _, server = simulate(graph, NETWORKS["perfect"], 5, crashes=size - 1)
    assert server.failure is not None
    assert server.unmasking is None


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_server_restores_the_round_from_its_log(graph):
    parameters, federation, inputs, server = simulate(graph, NETWORKS["all at once"], 1, crashes=2)
    assert server.unmasking is not None
    restored = restore(parameters, federation, frozenset(inputs), server.log)
    assert restored.survivors == server.unmasking.survivors
    total = plain_sum(server.summed, restored.survivors)
    apply_masks(total, restored.masks)
    assert np.array_equal(total, server.total)


def test_a_simulation_can_be_replayed():
    runs = [simulate("complete", NETWORKS["all at once"], 2)[3] for _ in range(2)]
    assert runs[0].network.now == runs[1].network.now
    assert runs[0].network.lost == runs[1].network.lost > 0
    assert np.array_equal(runs[0].total, runs[1].total)


def test_the_network_is_as_bad_as_it_says():
    network = Network(Faults(loss=0.2, duplication=0.5, longest_delay=10.0), seed=1)
    arrived = []
    for number in range(1000):
        network.send(lambda number=number: arrived.append((network.now, number)))
    network.run(until=100.0)
    order = [number for _, number in arrived]
    assert [time for time, _ in arrived] == sorted(time for time, _ in arrived)
    assert order != sorted(order)
    assert 1100 < len(arrived) < 1300
    assert len(set(order)) < 1000
