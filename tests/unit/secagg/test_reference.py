"""The production code and the slow reference agree byte for byte."""

import hashlib

import pytest
from finsecure_crypto.secagg.parameters import Profile, SparseGraph
from finsecure_crypto.secagg.phases import Phase

from tests.reference import secagg_reference as reference
from tests.support.secagg import (
    SPARSE,
    Federation,
    deterministic,
    make_inputs,
    make_parameters,
    run_round,
)


def context_fields(parameters):
    graph = ("complete", "")
    if parameters.graph is not None:
        graph = (str(parameters.graph.corrupt_fraction), str(parameters.graph.dropout_fraction))
    return (
        parameters.federation,
        parameters.task,
        parameters.round_number,
        parameters.attempt,
        parameters.attempt_nonce,
        parameters.model_digest,
        parameters.task_digest,
        parameters.profile.value,
        *graph,
        parameters.minimum_cohort,
        parameters.layout.digest(),
    )


@pytest.mark.parametrize(
    ("size", "graph", "profile", "dropped"),
    [
        (3, None, Profile.ACTIVE, ()),
        (5, None, Profile.ACTIVE, (4,)),
        (7, None, Profile.SEMI_HONEST, (0, 3, 6)),
        (16, SPARSE, Profile.SEMI_HONEST, ()),
        (20, SparseGraph(0.05, 0.1), Profile.ACTIVE, (2, 11)),
    ],
)
def test_masked_vectors_and_sum(size, graph, profile, dropped):
    parameters = make_parameters(size, graph=graph, profile=profile)
    thresholds = parameters.thresholds(size)
    assert thresholds.complete is (graph is None)
    federation = Federation.of(size)
    names = list(federation.identities)
    inputs = make_inputs(parameters, names)
    run = run_round(
        parameters,
        federation,
        inputs,
        {Phase.SUBMIT_MASKED_INPUT: frozenset(names[index] for index in dropped)},
    )

    context = reference.context(context_fields(parameters))
    assert context == parameters.context()
    clients = [
        reference.Client(
            name,
            federation.identities[name].certificate,
            hashlib.sha256(name.encode()).digest(),
            deterministic(name),
            context,
        )
        for name in names
    ]
    masked, total = reference.run(
        context,
        clients,
        thresholds.neighbours,
        thresholds.threshold,
        [inputs[name].tolist() for name in names],
        dropped,
    )
    assert {names[i]: words for i, words in masked.items()} == {
        name: words.tolist() for name, words in run.masked.items()
    }
    assert total == run.total.tolist()
