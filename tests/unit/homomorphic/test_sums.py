"""What an audited sum binds, and what values it takes."""

from dataclasses import replace

import numpy as np
import pytest
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.homomorphic.sums import SumTerms

NAME = "federations/lending/sums/exposure"
TERMS = SumTerms(("shop", "mill"), 1000, 50, 200, "federations/lending/encryptionKeys/first")


def context(
    terms: SumTerms = TERMS,
    name: str = NAME,
    spec: bytes = b"spec",
    nonce: bytes = bytes(32),
    key: bytes = bytes(32),
) -> bytes:
    return terms.binding(name, spec, nonce, key).context()


def test_everything_that_members_agree_on_is_bound() -> None:
    other_key = "federations/lending/encryptionKeys/second"
    contexts = [
        context(),
        context(name=NAME + "-2"),
        context(spec=b"other"),
        context(nonce=b"n" * 32),
        context(key=b"k" * 32),
        context(replace(TERMS, maximum=1001)),
        context(replace(TERMS, labels=("shop", "mill", "bank"))),
        context(replace(TERMS, minimum_contributors=51)),
        context(replace(TERMS, maximum_contributors=201)),
        context(replace(TERMS, key_name=other_key)),
    ]
    assert len(set(contexts)) == len(contexts)
    assert TERMS.binding(NAME, b"spec", bytes(32), bytes(32)).subject_name == NAME


def test_values_go_where_their_labels_are_and_what_is_left_out_is_zero() -> None:
    values = TERMS.values({"mill": 7})
    assert {name: value.tolist() for name, value in values.items()} == {"values": [0, 7]}
    TERMS.layout().check(values)
    assert TERMS.totals({"values": np.array([2**63, 5], np.uint64)}) == (2**63, 5)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"kiosk": 1}, "LABEL_UNKNOWN"),
        ({"shop": 1001}, "VALUE_OUT_OF_RANGE"),
        ({"shop": -1}, "VALUE_OUT_OF_RANGE"),
        ({"shop": True}, "VALUE_OUT_OF_RANGE"),
        ({"shop": 1.0}, "VALUE_OUT_OF_RANGE"),
        ({"shop": "1"}, "VALUE_OUT_OF_RANGE"),
    ],
)
def test_other_values_are_refused(given: dict[str, int], code: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        TERMS.values(given)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"minimum_contributors": 1}, "COHORT_BOUNDS"),
        ({"maximum_contributors": 49}, "COHORT_BOUNDS"),
        ({"maximum": 2**56}, "LANE_OVERFLOW"),
        ({"maximum": 0}, "LAYOUT_INVALID"),
        ({"labels": ()}, "LAYOUT_INVALID"),
    ],
)
def test_impossible_terms_are_refused(changes: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        replace(TERMS, **changes)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_the_largest_total_fits() -> None:
    largest = replace(TERMS, maximum=2**56 - 1)
    assert largest.maximum * largest.maximum_contributors < 2**64
