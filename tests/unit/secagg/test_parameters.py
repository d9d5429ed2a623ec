import dataclasses

import pytest
from finsecure_crypto.encoding import CountSection, VectorLayout
from finsecure_crypto.errors import InvalidArgumentError, PolicyError
from finsecure_crypto.secagg.parameters import ClientPolicy, Profile, SparseGraph

from tests.support.secagg import make_parameters

CHANGES = {
    "federation": "payments",
    "task": "fraud",
    "round_number": 4,
    "attempt": 2,
    "attempt_nonce": b"n" * 32,
    "model_digest": b"M" * 32,
    "task_digest": b"T" * 32,
    "profile": Profile.SEMI_HONEST,
    "graph": SparseGraph(0.05, 0.1),
    "minimum_cohort": 3,
    "layout": VectorLayout((CountSection("values", 6, 2**40 - 1),), 9),
}


def test_every_parameter_is_changed_below():
    fields = {field.name for field in dataclasses.fields(make_parameters(9))}
    assert fields == CHANGES.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_changes_the_context(name):
    assert make_parameters(9).context() == make_parameters(9).context()
    assert make_parameters(9, **{name: CHANGES[name]}).context() != make_parameters(9).context()


def test_graph_fractions_are_told_apart_in_the_context():
    one = make_parameters(9, graph=SparseGraph(0.05, 0.1)).context()
    other = make_parameters(9, graph=SparseGraph(0.1, 0.05)).context()
    assert one != other


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"federation": ""}, "NAME_EMPTY"),
        ({"task": ""}, "NAME_EMPTY"),
        ({"round_number": -1}, "ROUND_NUMBER"),
        ({"attempt": 0}, "ROUND_NUMBER"),
        ({"attempt_nonce": b"short"}, "DIGEST_LENGTH"),
        ({"model_digest": b""}, "DIGEST_LENGTH"),
        ({"task_digest": b"x" * 33}, "DIGEST_LENGTH"),
        ({"minimum_cohort": 1}, "COHORT_BOUNDS"),
        ({"minimum_cohort": 10}, "COHORT_BOUNDS"),
    ],
)
def test_each_invalid_value_has_its_error(changes, code):
    with pytest.raises(InvalidArgumentError) as caught:
        make_parameters(9, **changes)
    assert caught.value.code == code


@pytest.mark.parametrize("fractions", [(-0.1, 0.2), (0.5, 0.5), (1.0, 0.0), (float("nan"), 0.1)])
def test_impossible_fractions_are_refused(fractions):
    with pytest.raises(InvalidArgumentError) as caught:
        SparseGraph(*fractions)
    assert caught.value.code == "GRAPH_FRACTIONS"


@pytest.mark.parametrize(
    ("profile", "size", "threshold"),
    [
        (Profile.ACTIVE, 2, 2),
        (Profile.ACTIVE, 3, 3),
        (Profile.ACTIVE, 4, 3),
        (Profile.ACTIVE, 1000, 667),
        (Profile.SEMI_HONEST, 2, 2),
        (Profile.SEMI_HONEST, 3, 2),
        (Profile.SEMI_HONEST, 1000, 501),
    ],
)
def test_threshold_of_the_complete_graph(profile, size, threshold):
    derived = make_parameters(size, profile=profile).thresholds(size)
    assert (derived.neighbours, derived.threshold, derived.complete) == (size - 1, threshold, True)


def test_active_threshold_makes_two_survivor_sets_impossible():
    # 2t > n + (n_C) with fewer than n/3 corrupt: two sets of t signers share an honest one.
    for size in range(2, 400):
        threshold = make_parameters(size).thresholds(size).threshold
        corrupt = (size - 1) // 3
        assert 2 * threshold - size > corrupt


@pytest.mark.parametrize("size", [1, 10])
def test_roster_outside_its_bounds_is_refused(size):
    with pytest.raises(InvalidArgumentError) as caught:
        make_parameters(9).thresholds(size)
    assert caught.value.code == "ROSTER_SIZE"


def test_sparse_graph_gives_way_to_the_complete_one():
    derived = make_parameters(9, graph=SparseGraph(0.3, 0.3)).thresholds(9)
    assert derived.complete
    assert derived.threshold == 7


@pytest.mark.parametrize(
    ("policy", "parameters", "code"),
    [
        (ClientPolicy(), make_parameters(9, profile=Profile.SEMI_HONEST), "PROFILE_BELOW_POLICY"),
        (ClientPolicy(minimum_cohort=5), make_parameters(9), "COHORT_BELOW_POLICY"),
    ],
)
def test_policy_refuses_weak_parameters(policy, parameters, code):
    with pytest.raises(PolicyError) as caught:
        policy.check_parameters(parameters)
    assert caught.value.code == code


def test_policy_refuses_a_low_threshold():
    policy = ClientPolicy(minimum_threshold=4)
    policy.check_thresholds(make_parameters(9).thresholds(5))
    with pytest.raises(PolicyError) as caught:
        policy.check_thresholds(make_parameters(9).thresholds(4))
    assert caught.value.code == "THRESHOLD_BELOW_POLICY"
