"""The packed encoding agrees with its vectors and refuses what would overflow or mislead."""

import math

import numpy as np
import pytest
from finsecure_crypto import quantisation
from finsecure_crypto.encoding import (
    CountSection,
    RealSection,
    VectorLayout,
    clip_norm,
    rounding_generator,
)
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError

from tests.support.crypto import FixedNoise, replay, seeded, vectors
from tests.vectors.encoding.generate import content

VECTORS = vectors("encoding")
LAYOUT = VectorLayout((CountSection("weight", 2, 10), RealSection("update", 4, 1.0, 16)), 3)
VALUES = {"weight": np.array([10, 0]), "update": np.array([0.0, 1.0, -1.0, 0.3])}


def layout_of(case):
    kinds = {"count": CountSection, "real": RealSection}
    return VectorLayout(
        tuple(kinds[kind](*rest) for kind, *rest in case["sections"]), case["cohort"]
    )


def values_of(case):
    types = {
        name: np.uint64 if kind == "count" else np.float64 for kind, name, *_ in case["sections"]
    }
    reads = {np.uint64: int, np.float64: float}
    return {
        name: np.array([reads[types[name]](v) for v in given], types[name])
        for name, given in case["values"].items()
    }


def encoded(values=VALUES, layout=LAYOUT, seed=1):
    return layout.encode(values, rounding_generator(seeded(seed)))


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: case["name"])
def test_vectors(case):
    layout = layout_of(case)
    words = layout.encode(values_of(case), FixedNoise(map(float.fromhex, case["noise"])))
    assert words.tolist() == [int(word) for word in case["words"]]
    assert layout.words == words.size
    integers = {
        k: [str(v) for v in sums.tolist()] for k, sums in layout.decode_integers(words, 1).items()
    }
    assert integers == case["integers"]


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: case["why"])
def test_layouts_are_refused(case):
    with pytest.raises(InvalidArgumentError) as caught:
        layout_of(case)
    assert caught.value.code == case["code"]


@pytest.mark.parametrize("bound", [math.inf, math.nan, -math.inf, 1e-300, 1e300])
def test_bounds_are_finite(bound):
    with pytest.raises(InvalidArgumentError):
        RealSection("update", 1, bound, 8)


def test_vectors_are_what_the_generator_writes():
    assert content() == VECTORS


def test_the_rounding_noise_is_pinned():
    rounding = VECTORS["rounding"]
    generator = rounding_generator(replay(bytes.fromhex(rounding["seed"])))
    assert [n.hex() for n in generator.random(8).tolist()] == rounding["noise"]


@pytest.mark.parametrize(("bits", "cohort", "lanes"), [(16, 32, 3), (8, 256, 4), (16, 33, 2)])
def test_lanes_a_word(bits, cohort, lanes):
    section = RealSection("update", 1200, 1.0, bits)
    assert VectorLayout((section,), cohort).words == 1200 // lanes


def test_a_full_cohort_of_extremes_stays_in_its_lanes():
    cohort = 5
    layout = VectorLayout(
        (CountSection("c", 3, 7), RealSection("r", 3, 0.5, 8), CountSection("d", 1, 2**60)), cohort
    )
    highest = {"c": np.full(3, 7), "r": np.full(3, 99.0), "d": np.array([2**60])}
    total = sum(
        (encoded(highest, layout, seed) for seed in range(cohort)),
        np.zeros(layout.words, np.uint64),
    )
    decoded = layout.decode(total, cohort)
    assert decoded["c"].tolist() == [35] * 3
    assert decoded["r"].tolist() == pytest.approx([2.5] * 3)
    assert decoded["d"].tolist() == [5 * 2**60]


def test_zero_is_exact():
    layout = VectorLayout((RealSection("update", 1000, 0.3, 11),), 4)
    for seed in range(4):
        words = encoded({"update": np.zeros(1000)}, layout, seed)
        assert not layout.decode(words, 1)["update"].any()


def test_rounding_is_unbiased():
    layout = VectorLayout((RealSection("update", 100_000, 1.0, 4),), 2)
    decoded = layout.decode(encoded({"update": np.full(100_000, 0.3)}, layout), 1)["update"]
    # The step is 1/7, so the mean has a standard deviation below 1/7/2/sqrt(100 000) = 0.00023.
    assert decoded.mean() == pytest.approx(0.3, abs=0.0015)
    assert set(np.round(decoded * 7).tolist()) == {2.0, 3.0}


def test_reals_decode_within_one_step():
    decoded = LAYOUT.decode(encoded(), 1)
    assert decoded["weight"].dtype == np.uint64
    assert decoded["weight"].tolist() == [10, 0]
    assert decoded["update"].dtype == np.float64
    assert decoded["update"] == pytest.approx(VALUES["update"], abs=1 / quantisation.offset(16))


def test_float32_and_small_integers_are_taken():
    values = {
        "weight": VALUES["weight"].astype(np.uint8),
        "update": VALUES["update"].astype(np.float32),
    }
    assert LAYOUT.decode(encoded(values), 1)["weight"].tolist() == [10, 0]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"weight": np.array([11, 0])}, "COUNT_TOO_LARGE"),
        ({"weight": np.array([2**64 - 1, 0], np.uint64)}, "COUNT_TOO_LARGE"),
        ({"weight": np.array([-1, 0])}, "COUNT_NEGATIVE"),
        ({"weight": np.array([1.0, 0.0])}, "VECTOR_SHAPE"),
        ({"weight": np.array([True, False])}, "VECTOR_SHAPE"),
        ({"weight": np.array([1])}, "VECTOR_SHAPE"),
        ({"weight": np.array([[1, 1]])}, "VECTOR_SHAPE"),
        ({"update": np.zeros(5)}, "VECTOR_SHAPE"),
        ({"update": np.zeros(4, np.int64)}, "VECTOR_SHAPE"),
        ({"update": np.zeros(4, np.complex128)}, "VECTOR_SHAPE"),
        ({"update": np.array([0, 0, 0, math.nan])}, "VALUE_NOT_FINITE"),
        ({"update": np.array([0, math.inf, 0, 0], np.float32)}, "VALUE_NOT_FINITE"),
        ({"another": np.zeros(4)}, "VECTOR_SHAPE"),
    ],
)
def test_values_are_refused(change, code):
    with pytest.raises(InvalidArgumentError) as caught:
        encoded({**VALUES, **change})
    assert caught.value.code == code


def test_missing_values_are_refused():
    with pytest.raises(InvalidArgumentError):
        encoded({"weight": VALUES["weight"]})


@pytest.mark.parametrize(
    "disturb",
    [
        lambda words: words + np.array([2**63, 0, 0], np.uint64),  # a bit above the lanes
        lambda words: words + np.array([0, 0, 2**20], np.uint64),  # a value in the padding
        lambda words: words + np.array([1, 0, 0], np.uint64),  # a count above its maximum
        lambda words: words | np.uint64(2**18 - 1),  # a real above its maximum
    ],
)
def test_sums_out_of_range_are_noticed(disturb):
    words = encoded()
    assert words.size == 3
    with pytest.raises(IntegrityError) as caught:
        LAYOUT.decode(disturb(words), 1)
    assert caught.value.code == "SUM_OUT_OF_RANGE"
    with pytest.raises(IntegrityError):
        LAYOUT.decode_integers(disturb(words), 1)


@pytest.mark.parametrize("contributors", [-1, 0, 4])
def test_contributors_are_bounded(contributors):
    with pytest.raises(InvalidArgumentError) as caught:
        LAYOUT.decode(encoded(), contributors)
    assert caught.value.code == "CONTRIBUTORS"


@pytest.mark.parametrize(
    "total", [np.zeros(2, np.uint64), np.zeros(3, np.int64), np.zeros((3, 1), np.uint64)]
)
def test_sums_of_another_shape_are_refused(total):
    with pytest.raises(InvalidArgumentError):
        LAYOUT.decode(total, 1)


def test_digests_differ_for_every_detail():
    count, real = CountSection("c", 3, 7), RealSection("r", 3, 0.5, 8)
    layouts = [
        VectorLayout((count, real), 4),
        VectorLayout((count, real), 3),
        VectorLayout((real, count), 4),
        VectorLayout((count,), 4),
        VectorLayout((CountSection("d", 3, 7), real), 4),
        VectorLayout((CountSection("c", 4, 7), real), 4),
        VectorLayout((CountSection("c", 3, 6), real), 4),
        VectorLayout((count, RealSection("r", 3, math.nextafter(0.5, 1), 8)), 4),
        VectorLayout((count, RealSection("r", 3, 0.5, 9)), 4),
    ]
    assert len({layout.digest() for layout in layouts}) == len(layouts)
    assert VectorLayout((count, real), 4).digest() == layouts[0].digest()


def test_clip_norm():
    assert np.array_equal(clip_norm(np.array([3.0, 4.0]), 5.0), [3.0, 4.0])
    assert clip_norm(np.array([3.0, 4.0]), 1.0) == pytest.approx([0.6, 0.8])
    assert clip_norm(np.array([3e300, 4e300]), 1.0) == pytest.approx([0.6, 0.8])
    assert not clip_norm(np.zeros(3), 1.0).any()
    assert clip_norm(np.zeros(0), 1.0).size == 0
    assert clip_norm(np.full(4, 1e38, np.float32), 1.0).dtype == np.float32


@pytest.mark.parametrize(
    ("vector", "norm", "code"),
    [
        (np.array([1.0, math.nan]), 1.0, "VALUE_NOT_FINITE"),
        (np.array([1.0, -math.inf]), 1.0, "VALUE_NOT_FINITE"),
        (np.array([1.0]), 0.0, "CLIP_NORM"),
        (np.array([1.0]), -1.0, "CLIP_NORM"),
        (np.array([1.0]), math.nan, "CLIP_NORM"),
        (np.array([1.0]), math.inf, "CLIP_NORM"),
    ],
)
def test_clip_norm_refuses(vector, norm, code):
    with pytest.raises(InvalidArgumentError) as caught:
        clip_norm(vector, norm)
    assert caught.value.code == code
