"""Whoever drops out and when: the exact sum of the survivors, or a clean end."""

import itertools

import numpy as np
import pytest
from finsecure_crypto.errors import StateError
from finsecure_crypto.secagg import client, server
from finsecure_crypto.secagg.parameters import Profile
from finsecure_crypto.secagg.phases import STEPS, Phase
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.support.secagg import (
    PERMISSIVE,
    SPARSE,
    Federation,
    deterministic,
    make_inputs,
    make_parameters,
    plain_sum,
    run_round,
)

PHASES = [step.phase for step in STEPS]
TOO_FEW = {
    Phase.ADVERTISE_KEYS: "COHORT_TOO_SMALL",
    Phase.SHARE_KEYS: "TOO_FEW_SHARERS",
    Phase.SUBMIT_MASKED_INPUT: "TOO_FEW_INPUTS",
    Phase.CONFIRM_SURVIVORS: "TOO_FEW_CONFIRMATIONS",
    Phase.REVEAL_SHARES: "TOO_FEW_REVEALS",
}
# A round is one call, of up to a second for the sparse graph.
steady = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def left_after(names, leaves):
    """Who has answered each phase."""
    left = {}
    for phase in PHASES:
        names = [name for name in names if leaves.get(name) != phase]
        left[phase] = names
    return left


def as_run(leaves):
    return {
        phase: frozenset(name for name, left in leaves.items() if left is phase) for phase in PHASES
    }


def expect(parameters, federation, leaves, failing):
    names = list(federation.identities)
    inputs = make_inputs(parameters, names)
    if failing is not None:
        with pytest.raises(StateError) as caught:
            run_round(parameters, federation, inputs, as_run(leaves))
        assert caught.value.code == TOO_FEW[failing]
        return
    run = run_round(parameters, federation, inputs, as_run(leaves))
    survivors = left_after(names, leaves)[Phase.SUBMIT_MASKED_INPUT]
    assert list(run.survivors) == survivors
    assert run.unmasking.contributors == len(survivors)
    assert run.unmasking.blamed == ()
    assert np.array_equal(run.total, plain_sum(inputs, run.survivors))


@st.composite
def leaving(draw, most):
    size = draw(st.integers(2, most))
    names = list(Federation.of(size).identities)
    phases = st.sampled_from([None, None, None, None, *PHASES])
    return {name: draw(phases) for name in names}


@settings(steady, max_examples=150)
@given(leaving(9), st.sampled_from(Profile), st.integers(2, 9))
def test_complete_graph(leaves, profile, minimum):
    event(f"ends in {check_complete_graph(leaves, profile, min(minimum, len(leaves)))}")


def test_complete_graph_in_every_pattern():
    names = list(Federation.of(3).identities)
    for pattern in itertools.product([None, *PHASES], repeat=3):
        check_complete_graph(dict(zip(names, pattern, strict=True)), Profile.SEMI_HONEST, 2)


def check_complete_graph(leaves, profile, minimum):
    size = len(leaves)
    parameters = make_parameters(size, profile=profile, minimum_cohort=minimum)
    left = left_after(list(leaves), leaves)
    advertised = len(left[Phase.ADVERTISE_KEYS])
    failing = None
    if advertised < minimum:
        failing = Phase.ADVERTISE_KEYS
    else:
        threshold = parameters.thresholds(advertised).threshold
        for phase in PHASES[1:]:
            summed = phase in {Phase.SHARE_KEYS, Phase.SUBMIT_MASKED_INPUT}
            if len(left[phase]) < max(threshold, minimum if summed else 0):
                failing = phase
                break
    expect(parameters, Federation.of(size), leaves, failing)
    return failing


def graph_of(parameters, federation, names):
    collector = server.CollectAdvertisements(
        parameters, frozenset(federation.identities), federation.verify_peer
    )
    for name in names:
        _, said = client.advertise_keys(
            parameters, federation.identities[name], deterministic(name), policy=PERMISSIVE
        )
        collector.accept(said)
    return collector.close().roster


@settings(steady, max_examples=25)
@given(st.data(), st.sampled_from(Profile))
def test_sparse_graph(data, profile):
    size = 24
    parameters = make_parameters(size, graph=SPARSE, profile=profile)
    federation = Federation.of(size)
    names = list(federation.identities)
    assert not parameters.thresholds(size).complete
    gone = data.draw(
        st.dictionaries(st.sampled_from(names), st.sampled_from(PHASES[1:]), max_size=8)
    )
    leaves = {name: gone.get(name) for name in names}
    left = left_after(names, leaves)
    session = (roster := graph_of(parameters, federation, names)).session
    position = {name: index for index, name in enumerate(roster.clients)}
    failing = None
    for phase in PHASES[1:]:
        present = {position[name] for name in left[phase]}
        owners = left[Phase.SHARE_KEYS]
        holders = [
            len(present & set(session.graph.holders(position[name]).tolist())) for name in owners
        ]
        if min(holders, default=0) < session.threshold:
            failing = phase
            break
    event(f"ends in {failing}")
    expect(parameters, federation, leaves, failing)


@settings(steady, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 2**32))
def test_every_length_and_value(length, seed):
    parameters = make_parameters(4, length=length)
    federation = Federation.of(4)
    inputs = make_inputs(parameters, list(federation.identities), seed)
    run = run_round(parameters, federation, inputs)
    assert np.array_equal(run.total, plain_sum(inputs, run.survivors))
