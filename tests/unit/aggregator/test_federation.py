"""What a round adds up and what its sums mean, against the plain computation."""

from dataclasses import replace

import numpy as np
import pytest
from finsecure_crypto.encoding import rounding_generator
from finsecure_crypto.errors import FinSecureError, IntegrityError, InvalidArgumentError, StateError
from finsecure_crypto.federation import (
    STANDARDISE_MEAN,
    STANDARDISE_SCALE,
    LocalMetrics,
    RoundKind,
    area_under_curve,
    check_tensors,
    flatten,
    round_attempt,
    round_parameters,
    score_histogram,
    statistics_result,
    statistics_values,
    training_result,
    training_values,
    unflatten,
)
from finsecure_crypto.model_version import ModelVersion
from finsecure_crypto.signing import SigningKey
from sklearn.metrics import roc_auc_score


def metrics(examples, bins=8, loss=20.5):
    return LocalMetrics(examples, 40, 30, loss, np.arange(2 * bins, dtype=np.uint64))


def add_up(layout, values):
    total = np.zeros(layout.words, np.uint64)
    for number, value in enumerate(values):
        seed = bytes([number]) * 32
        total += layout.encode(value, rounding_generator(lambda n, seed=seed: seed[:n]))
    return layout.decode(total, len(values))


def test_the_mean_update_is_weighted_by_capped_examples(plan):
    terms = plan.terms
    rng = np.random.default_rng(3)
    updates = [rng.normal(0, 0.1, terms.coordinates) for _ in range(4)]
    examples = [10, 500, 1000, 50_000]  # the last counts as 1000
    layout = terms.layout(RoundKind.TRAINING, 5)
    values = [training_values(terms, u, metrics(n)) for u, n in zip(updates, examples, strict=True)]
    result = training_result(terms, add_up(layout, values))
    weights = [10, 500, 1000, 1000]
    expected = sum(w * u for w, u in zip(weights, updates, strict=True)) / sum(weights)
    np.testing.assert_allclose(result.mean_update, expected, atol=4 * 2**-15)
    assert result.metrics.total_weight == sum(weights)
    assert result.metrics.training_examples == sum(examples)
    assert result.metrics.validation_examples == 160
    assert result.metrics.accuracy == 0.75
    assert result.metrics.loss == 20.5 * 4 / 160


def test_updates_are_clipped_to_the_norm_and_then_by_coordinate(plan):
    terms = replace(plan.terms, clip_norm=2.0, clip_value=1.0)
    update = np.zeros(terms.coordinates)
    update[:2] = 3.0, 4.0  # of norm 5, becomes 1.2, 1.6, then 1.2 → 1 and 1.6 → 1
    assert training_values(terms, update, metrics(1000))["update"][:3].tolist() == [1.0, 1.0, 0.0]


def test_bad_updates_are_refused(plan):
    good = np.zeros(plan.terms.coordinates)
    bad = good.copy()
    bad[3] = np.nan
    for update, loss, code in (
        (bad, 1.0, "VALUE_NOT_FINITE"),
        (good, np.inf, "VALUE_NOT_FINITE"),
        (good[1:], 1.0, "VECTOR_SHAPE"),
    ):
        with pytest.raises(InvalidArgumentError) as failure:
            training_values(plan.terms, update, metrics(10, loss=loss))
        assert failure.value.code == code
    with pytest.raises(InvalidArgumentError):
        statistics_values(plan.terms, np.zeros((0, 2)))


def test_nobody_with_an_example_is_no_result(plan):
    layout = plan.terms.layout(RoundKind.TRAINING, 2)
    values = training_values(plan.terms, np.zeros(plan.terms.coordinates), metrics(0))
    with pytest.raises(StateError) as failure:
        training_result(plan.terms, add_up(layout, [values, values]))
    assert failure.value.code == "TOTAL_WEIGHT_ZERO"


def test_statistics_give_means_and_deviations(plan):
    rng = np.random.default_rng(5)
    tables = [rng.beta(2, 5, (200, 2)) for _ in range(5)]
    for table in tables:
        table[:, 1] = 0.25  # constant: its scale is 1
    layout = plan.terms.layout(RoundKind.STATISTICS, 5)
    sums = add_up(layout, [statistics_values(plan.terms, table) for table in tables])
    result = statistics_result(plan.terms, sums)
    pooled = np.concatenate(tables)
    np.testing.assert_allclose(result.mean, pooled.mean(axis=0), atol=1e-6)
    assert result.scale[0] == pytest.approx(pooled[:, 0].std(), abs=1e-5)
    assert result.scale[1] == 1.0
    assert result.metrics.total_weight == 1000


def test_the_area_under_the_curve_is_that_of_the_binned_scores():
    rng = np.random.default_rng(9)
    positive = rng.random(2000) < 0.3
    scores = np.clip(rng.normal(np.where(positive, 0.6, 0.4), 0.2), 0, 1)
    binned = np.minimum(np.floor(scores * 64), 63)
    histogram = score_histogram(scores, positive, 64)
    assert histogram.sum() == 2000
    assert area_under_curve(histogram) == pytest.approx(roc_auc_score(positive, binned), abs=1e-12)
    assert area_under_curve(score_histogram(scores, np.ones(2000, bool), 64)) is None


def test_models_are_flattened_in_the_order_of_the_task(plan):
    rng = np.random.default_rng(2)
    tensors = {
        "bias": rng.normal(size=4).astype(np.float32),
        "weight": rng.normal(size=(3, 4)).astype(np.float32),
    }
    vector = flatten(plan.terms, tensors)
    assert vector[:12].tolist() == tensors["weight"].ravel().tolist()
    back = unflatten(plan.terms, vector)
    assert {name: array.tolist() for name, array in back.items()} == {
        name: array.tolist() for name, array in tensors.items()
    }
    standard = dict.fromkeys((STANDARDISE_MEAN, STANDARDISE_SCALE), np.ones(2, np.float32))
    check_tensors(plan.terms, tensors | standard)
    check_tensors(plan.terms, tensors | standard, standardised=True)
    for given, standardised in ((tensors | standard, False), (tensors, True)):
        with pytest.raises(FinSecureError) as failure:
            check_tensors(plan.terms, given, standardised=standardised)
        assert failure.value.code == "MODEL_TENSORS_MISMATCH"


def parameters(plan, **changes):
    fields = {
        "task_name": plan.name,
        "spec": plan.spec,
        "kind": RoundKind.TRAINING,
        "number": 1,
        "attempt": 1,
        "attempt_nonce": bytes(32),
        "model_digest": bytes(32),
        "invited": 5,
    }
    return round_parameters(round_attempt(plan.terms, **(fields | changes)), plan.terms.protection)


def test_everything_public_enters_the_context(plan):
    contexts = {
        parameters(plan, **change).context()
        for change in (
            {},
            {"spec": plan.spec + b"\x08\x01"},
            {"task_name": "federations/lending/tasks/other"},
            {"task_name": "federations/other/tasks/credit"},
            {"number": 2},
            {"attempt": 2},
            {"attempt_nonce": bytes(31) + b"\1"},
            {"model_digest": bytes(31) + b"\1"},
            {"invited": 4},
            {"kind": RoundKind.STATISTICS, "number": 0},
        )
    }
    assert len(contexts) == 10


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"task_name": "tasks/credit"}, "TASK_NAME_MALFORMED"),
        ({"kind": RoundKind.STATISTICS}, "ROUND_KIND_MISMATCH"),
        ({"number": 0}, "ROUND_KIND_MISMATCH"),
        ({"attempt_nonce": b""}, "DIGEST_LENGTH"),
    ],
)
def test_wrong_parameters_are_refused(plan, change, code):
    with pytest.raises(InvalidArgumentError) as failure:
        parameters(plan, **change)
    assert failure.value.code == code


def test_a_model_signature_covers_every_field():
    key = SigningKey.generate()
    version = ModelVersion("m", 1, bytes(32), 10, b"", "r", 7)
    signature = version.sign(key)
    version.verify(key.public, signature)
    for change in (
        {"name": "n"},
        {"version": 2},
        {"sha256": bytes(31) + b"\1"},
        {"size_bytes": 11},
        {"parent_sha256": b"\1"},
        {"round": "s"},
        {"create_time_ns": 8},
    ):
        with pytest.raises(IntegrityError) as failure:
            replace(version, **change).verify(key.public, signature)
        assert failure.value.code == "MODEL_SIGNATURE_REJECTED"
