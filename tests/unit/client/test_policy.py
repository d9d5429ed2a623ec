from dataclasses import replace

import pytest
from finsecure_client.policy import Policy
from finsecure_client.terms import Task
from finsecure_crypto.errors import PolicyError
from finsecure_crypto.federation import Masking, RoundKind, round_attempt, round_parameters
from finsecure_crypto.secagg.parameters import ClientPolicy, Profile, RoundParameters

from tests.support.client import FACTORY, make_task

POLICY = Policy(
    federation="lending",
    tasks=("credit", "fraud-*"),
    security=ClientPolicy(minimum_cohort=3, minimum_threshold=3),
    models=frozenset({FACTORY}),
    maximum_rounds=3,
    maximum_attempts=2,
    maximum_epochs=1,
    maximum_parameters=5,
)


def parameters(task: Task, number: int = 1, attempt: int = 1, invited: int = 5) -> RoundParameters:
    return round_parameters(
        round_attempt(
            task.terms,
            task_name=task.name,
            spec=task.spec,
            kind=RoundKind.TRAINING,
            number=number,
            attempt=attempt,
            attempt_nonce=bytes(32),
            model_digest=bytes(32),
            invited=invited,
        ),
        task.terms.protection,  # type: ignore[arg-type]
    )


def test_what_is_within_the_policy_passes() -> None:
    POLICY.check_round(make_task(), parameters(make_task(), number=3, attempt=2))


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("federations/lending/tasks/credit", True),
        ("federations/lending/tasks/fraud-cards", True),
        ("federations/lending/tasks/credit-2", False),
        ("federations/other/tasks/credit", False),
        ("federations/lending/tasks/fraud-/x", False),
        ("credit", False),
    ],
)
def test_task_names(name: str, allowed: bool) -> None:
    assert POLICY.allows_name(name) is allowed


@pytest.mark.parametrize(
    ("task", "round_", "code"),
    [
        ({"name": "federations/lending/tasks/other"}, {}, "TASK_NOT_ALLOWED"),
        ({"factory": "other:build"}, {}, "MODEL_NOT_ALLOWED"),
        ({"rounds": 4}, {}, "ROUNDS_ABOVE_POLICY"),
        ({}, {"number": 4}, "ROUND_NOT_ALLOWED"),
        ({}, {"attempt": 3}, "ROUND_NOT_ALLOWED"),
        ({}, {"invited": 3, "cohort": 2}, "COHORT_BELOW_POLICY"),
        ({}, {"profile": Profile.SEMI_HONEST}, "PROFILE_BELOW_POLICY"),
    ],
)
def test_refusals(task: dict[str, object], round_: dict[str, object], code: str) -> None:
    given = replace(make_task(), **task)  # type: ignore[arg-type]
    changes = dict(round_)
    terms = given.terms
    if "cohort" in changes:
        terms = replace(terms, minimum_cohort=changes.pop("cohort"))
    if "profile" in changes:
        terms = replace(terms, protection=Masking(changes.pop("profile"), None))
    given = replace(given, terms=terms)
    with pytest.raises(PolicyError) as caught:
        POLICY.check_round(given, parameters(given, **changes))  # type: ignore[arg-type]
    assert caught.value.code == code


def test_threshold_below_the_pinned_one() -> None:
    strict = replace(POLICY, security=ClientPolicy(minimum_cohort=3, minimum_threshold=5))
    with pytest.raises(PolicyError) as caught:
        strict.check_round(make_task(), parameters(make_task(), invited=5))  # t = 4
    assert caught.value.code == "THRESHOLD_BELOW_POLICY"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"maximum_epochs": 0}, "EPOCHS_ABOVE_POLICY"),
        ({"maximum_parameters": 4}, "MODEL_ABOVE_POLICY"),
        ({"maximum_inputs": 3}, "INPUTS_ABOVE_POLICY"),
    ],
)
def test_limits_of_work(change: dict[str, int], code: str) -> None:
    with pytest.raises(PolicyError) as caught:
        replace(POLICY, **change).check_task(make_task())  # type: ignore[arg-type]
    assert caught.value.code == code
