"""Minimum cohorts: what they may be, what follows what, what is below them."""

from dataclasses import replace

import pytest
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError, PolicyError
from finsecure_crypto.minimum_cohorts import MinimumCohorts

LENDING = MinimumCohorts("federations/lending", 2, 5, 60)


@pytest.mark.parametrize(
    "wrong",
    [{"revision": 0}, {"rounds": 1}, {"rounds": 100_001}, {"sums": 1}, {"sums": 10_001}],
)
def test_what_no_federation_demands(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidArgumentError, match="MINIMUM_OUT_OF_RANGE"):
        replace(LENDING, **wrong)


def test_the_digest_binds_all_of_it() -> None:
    others = [
        replace(LENDING, federation="federations/cards"),
        replace(LENDING, revision=3),
        replace(LENDING, rounds=6),
        replace(LENDING, sums=61),
    ]
    assert len({each.digest() for each in (LENDING, *others)}) == 5
    assert len(LENDING.digest()) == 32


def test_only_a_later_revision_follows_whether_it_is_larger_or_smaller() -> None:
    assert not LENDING.follows(LENDING)
    assert replace(LENDING, revision=3, rounds=2).follows(LENDING)
    assert replace(LENDING, revision=9, rounds=9).follows(LENDING)
    for rolled_back in (
        replace(LENDING, revision=1),
        replace(LENDING, revision=1, rounds=99),
        replace(LENDING, rounds=4),
        replace(LENDING, sums=61),
    ):
        with pytest.raises(IntegrityError, match="FEDERATION_ROLLED_BACK"):
            rolled_back.follows(LENDING)


def test_what_is_below_is_refused_each_by_its_own_minimum() -> None:
    LENDING.require_round(5)
    LENDING.require_sum(60)
    with pytest.raises(PolicyError, match="a round of 4 clients"):
        LENDING.require_round(4)
    with pytest.raises(PolicyError, match="COHORT_BELOW_FEDERATION_MINIMUM"):
        LENDING.require_sum(59)
