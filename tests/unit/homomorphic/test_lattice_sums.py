"""BGV and CKKS: two of three trustees open the sum of all inputs, and one opens nothing."""

import math

import numpy as np
import pytest
from finsecure_crypto.encoding import CountSection, RealSection, VectorLayout, rounding_generator
from finsecure_crypto.errors import (
    IntegrityError,
    InvalidArgumentError,
    ProtocolViolationError,
    StateError,
)
from finsecure_crypto.homomorphic import bgv, ckks
from finsecure_crypto.homomorphic.lattice import canonical, sampling
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.secret import SecretBytes

from tests.support.crypto import seeded
from tests.support.lattice import CONTEXT, HOLDERS, MODES, PAIRS, ceremony, uniform_run

COHORT = 10_000
LAYOUT = VectorLayout(
    (
        CountSection("weight", 1, 1000),
        RealSection("update", 9000, 0.25, 16),
        CountSection("loss_q16", 2, 2**46),
        RealSection("moments", 3, 1e6, 40),
    ),
    COHORT,
)
CLIENTS = 3


def values(client):
    rng = np.random.default_rng(client)
    return {
        "weight": np.array([1000 - client]),
        "update": rng.normal(0, 0.2, 9000),
        "loss_q16": np.array([2**46, client]),
        "moments": rng.uniform(-1e6, 1e6, 3),
    }


def encrypted(key, client=0, layout=LAYOUT, given=None):
    rng = rounding_generator(seeded(client))
    return b"".join(key.encrypt(layout, given or values(client), rng))


@pytest.fixture(scope="module", params=MODES, ids=lambda mode: mode.value)
def federation(request):
    key, shares = ceremony(request.param)
    total = encrypted(key)
    for client in range(1, CLIENTS):
        total = key.add(total, encrypted(key, client))
    partials = {holder: shares[holder].partial(key, total, CONTEXT) for holder in HOLDERS}
    return key, shares, total, partials


def combine(federation, holders, partials=None):
    key, _, total, own = federation
    chosen = {holder: (partials or own)[holder] for holder in holders}
    return key.combine(LAYOUT, CLIENTS, total, chosen, CONTEXT)


def assert_sum(key, sums):
    given = [values(client) for client in range(CLIENTS)]
    for name in ("weight", "loss_q16"):
        assert sums[name].dtype == np.uint64
        assert np.array_equal(sums[name], sum(each[name] for each in given))
    if key.mode is Mode.BGV:  # exactly what the masked round gives
        words = np.zeros(LAYOUT.words, np.uint64)
        for client, each in enumerate(given):
            words += LAYOUT.encode(each, rounding_generator(seeded(client)))
        for name, plain in LAYOUT.decode(words, CLIENTS).items():
            assert np.array_equal(sums[name], plain)
        return
    for name, bound in (("update", 0.25), ("moments", 1e6)):
        plain = sum(np.clip(each[name], -bound, bound) for each in given)
        assert sums[name].dtype == np.float64
        assert np.max(np.abs(sums[name] - plain)) <= key.error_bound(LAYOUT) * bound


@pytest.mark.parametrize("holders", [*PAIRS, HOLDERS])
def test_two_or_three_trustees_open_the_sum(federation, holders):
    assert_sum(federation[0], combine(federation, holders))


def test_a_million_values_cost_at_most_24_bytes_each_in_bgv():
    key, _ = ceremony(Mode.BGV)
    shape = key.shape(VectorLayout((RealSection("update", 10**6, 1.0, 16),), COHORT))
    assert (shape.count, shape.size_bytes) == (245, 95_232)
    assert shape.input_bytes <= 24 * 10**6


def test_ckks_costs_30_bytes_a_value():
    key, _ = ceremony(Mode.CKKS)
    shape = key.shape(VectorLayout((RealSection("update", 8192, 1.0, 16),), COHORT))
    assert (shape.count, shape.size_bytes) == (1, 30 * 8192)


def test_extremes_of_a_full_cohort_stay_in_their_slots(federation):
    """Adds 10 000 inputs by doubling: all digits and reals at their limits."""
    key, shares = federation[:2]
    layout = VectorLayout((CountSection("c", 2, 2**32 - 1), RealSection("r", 2, 0.5, 16)), COHORT)
    given = {"c": np.full(2, 2**32 - 1), "r": np.array([-0.5, 0.5])}
    one = encrypted(key, layout=layout, given=given)
    total, power, count = None, one, COHORT
    while count:
        if count & 1:
            total = power if total is None else key.add(total, power)
        power, count = key.add(power, power), count >> 1
    partials = {holder: shares[holder].partial(key, total, CONTEXT) for holder in (1, 3)}
    sums = key.combine(layout, COHORT, total, partials, CONTEXT)
    assert sums["c"].tolist() == [COHORT * (2**32 - 1)] * 2
    assert np.abs(sums["r"] - [-5000, 5000]).max() <= 0.5 * max(key.error_bound(layout), 1e-9)


def test_a_lone_trustee_cannot_ask_to_open(federation):
    for holder in HOLDERS:
        with pytest.raises(StateError) as caught:
            combine(federation, [holder])
        assert caught.value.code == "TOO_FEW_PARTIALS"


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_a_lone_trustee_can_compute_is_uniform(federation, holder):
    """c0 and both its products leave c1·s_j of the component that it lacks: noise all over q."""
    key, _, total, partials = federation
    parameters, ring = key.system.parameters, key.system.ring
    pairs = key.pairs(total)
    known = key.pairs(partials[holder])
    left = canonical.total(
        parameters, pairs[:, 0], canonical.total(parameters, known[:, 0], known[:, 1])
    )
    fractions = ring.fractions(left.astype(np.uint64)).ravel()
    counts, _ = np.histogram(fractions, 64, (-0.5, 0.5))
    expected = fractions.size / 64
    # Chi-squared with 63 degrees of freedom: above 140 once in ten million runs.
    assert np.sum((counts - expected) ** 2 / expected) < 140
    # And the coefficients of what opens are all within a part of q that gets narrower with CKKS.
    lacking = ({1, 2, 3} - {holder, (holder - 2) % 3 + 1}).pop()
    whole = canonical.total(parameters, left, key.pairs(partials[lacking])[:, 0])
    assert np.abs(ring.fractions(whole.astype(np.uint64))).max() < 0.3


def changed(partial, place, size):
    """Flips a low bit in one residue of one component of each ciphertext."""
    data = bytearray(partial)
    for start in range(0, len(data), size):
        data[start + place * size // 2 + 8] ^= 1
    return bytes(data)


def noisy(key, partial, places):
    """Replaces components by what is uniformly random."""
    parameters = key.system.parameters
    pairs = key.pairs(partial).copy()
    rng = np.random.default_rng(1)
    for place in places:
        pairs[:, place] = rng.integers(
            0, canonical.columns(parameters), pairs[:, place].shape, parameters.word
        )
    return canonical.write(parameters, pairs)


@pytest.mark.parametrize("liar", HOLDERS)
def test_who_contradicts_both_others_is_named(federation, liar):
    key, _, _, partials = federation
    size = key.system.parameters.ciphertext_bytes
    wrong = changed(changed(partials[liar], 0, size), 1, size)
    with pytest.raises(ProtocolViolationError) as caught:
        combine(federation, HOLDERS, {**partials, liar: wrong})
    assert (caught.value.code, caught.value.culprit) == ("PARTIAL_INVALID", str(liar))
    rest = [holder for holder in HOLDERS if holder != liar]
    assert_sum(key, combine(federation, rest))


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("liar", HOLDERS)
def test_whose_component_leaves_noise_is_named(federation, liar, place):
    key, _, _, partials = federation
    wrong = {**partials, liar: noisy(key, partials[liar], [place])}
    with pytest.raises(ProtocolViolationError) as caught:
        combine(federation, HOLDERS, wrong)
    assert (caught.value.code, caught.value.culprit) == ("PARTIAL_INVALID", str(liar))


@pytest.mark.parametrize("pair", PAIRS)
def test_two_trustees_notice_a_lie_in_what_both_sent(federation, pair):
    key, _, _, partials = federation
    size = key.system.parameters.ciphertext_bytes
    for liar in pair:
        other = sum(pair) - liar
        place = 0 if other == liar % 3 + 1 else 1  # its own component, or its predecessor's
        wrong = {**partials, liar: changed(partials[liar], place, size)}
        with pytest.raises((IntegrityError, ProtocolViolationError)) as caught:
            combine(federation, pair, wrong)
        assert caught.value.code in {"PARTIALS_DISAGREE", "PARTIAL_INVALID"}
        assert caught.value.culprit in {None, str(liar)}


def test_two_trustees_do_not_notice_a_small_lie_in_what_one_sent(federation):
    """What the documents say is not promised: it takes the third."""
    key, _, total, partials = federation
    parameters = key.system.parameters
    # Holder 2 alone of 1 and 2 sends component 2, in its first place; t is nothing modulo t.
    shift = np.full(
        (2, len(parameters.ciphertext_primes), parameters.degree),
        parameters.noise_factor if key.mode is Mode.BGV else 1,
        parameters.word,
    )
    shift[1] = 0
    wrong = canonical.write(parameters, canonical.total(parameters, key.pairs(partials[2]), shift))
    sums = key.combine(LAYOUT, CLIENTS, total, {1: partials[1], 2: wrong}, CONTEXT)
    assert_sum(key, sums)
    with pytest.raises(IntegrityError) as caught:
        combine(federation, HOLDERS, {**partials, 2: wrong})
    assert caught.value.code == "PARTIALS_DISAGREE"


def test_a_small_lie_opens_nothing_and_names_two(federation):
    """Adds one unit of the plaintext to a component: as sound as the truth, but not the same."""
    key, _, _, partials = federation
    parameters = key.system.parameters
    unit = np.ones((2, len(parameters.ciphertext_primes), parameters.degree), parameters.word)
    unit[1] = 0
    wrong = canonical.write(parameters, canonical.total(parameters, key.pairs(partials[1]), unit))
    for holders in ((1, 2), HOLDERS):
        with pytest.raises(IntegrityError) as caught:
            combine(federation, holders, {**partials, 1: wrong})
        assert caught.value.code == "PARTIALS_DISAGREE"
        assert "1 and 2" in str(caught.value)


def test_two_liars_open_nothing(federation):
    key, _, _, partials = federation
    wrong = {holder: noisy(key, partials[holder], [0, 1]) for holder in (1, 2)}
    with pytest.raises((IntegrityError, ProtocolViolationError)):
        combine(federation, HOLDERS, {**partials, **wrong})


@pytest.mark.parametrize(
    "spoil", [lambda p: p[:-1], lambda p: p + p, lambda p: b"", lambda p: b"\xff" * len(p)]
)
def test_a_malformed_partial_names_its_sender(federation, spoil):
    key, _, total, partials = federation
    for refuse in (
        lambda bad: key.verify_partial(total, 2, bad, CONTEXT),
        lambda bad: combine(federation, (1, 2), {1: partials[1], 2: bad}),
    ):
        with pytest.raises(ProtocolViolationError) as caught:
            refuse(spoil(partials[2]))
        assert (caught.value.code, caught.value.culprit) == ("PARTIAL_INVALID", "2")
    key.verify_partial(total, 2, partials[2], CONTEXT)


def test_the_same_question_has_the_same_answer_in_any_run(federation):
    key, shares, total, partials = federation
    size = key.system.parameters.ciphertext_bytes
    last = shares[1].partial(key, total[-size:], bytes(32))
    assert last == partials[1][-size:]


def test_inputs_are_blinded_anew(federation):
    key = federation[0]
    assert encrypted(key) != encrypted(key)


def test_a_contribution_of_noise_is_noticed(federation):
    key, shares = federation[:2]
    total = uniform_run(key, key.shape(LAYOUT).count)
    partials = {holder: shares[holder].partial(key, total, CONTEXT) for holder in (1, 2)}
    with pytest.raises(IntegrityError) as caught:
        key.combine(LAYOUT, CLIENTS, total, partials, CONTEXT)
    assert caught.value.code == "SUM_OUT_OF_RANGE"


def test_more_than_the_contributors_can_reach_is_noticed(federation):
    key, _, total, partials = federation
    with pytest.raises(IntegrityError) as caught:
        key.combine(LAYOUT, 2, total, {h: partials[h] for h in (1, 2)}, CONTEXT)
    assert caught.value.code == "SUM_OUT_OF_RANGE"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda f: f[0].combine(LAYOUT, 0, f[2], f[3], CONTEXT), "CONTRIBUTORS"),
        (lambda f: f[0].combine(LAYOUT, COHORT + 1, f[2], f[3], CONTEXT), "CONTRIBUTORS"),
        (lambda f: f[0].combine(LAYOUT, 3, f[2] * 2, f[3], CONTEXT), "VECTOR_SHAPE"),
        (lambda f: f[0].combine(LAYOUT, 3, f[2], {**f[3], 4: f[3][1]}, CONTEXT), "HOLDER_UNKNOWN"),
        (lambda f: f[0].add(f[2], f[2] * 2), "RUN_LENGTH"),
        (lambda f: f[1][1].partial(f[0], f[2], bytes(31)), "CONTEXT_LENGTH"),
        (
            lambda f: f[1][1].partial(ceremony(f[0].mode, "another")[0], f[2], CONTEXT),
            "KEY_MISMATCH",
        ),
        (
            lambda f: f[0].encrypt(LAYOUT, {"weight": np.array([1])}, rounding_generator()),
            "VECTOR_SHAPE",
        ),
    ],
)
def test_calls_are_refused(federation, call, code):
    with pytest.raises(InvalidArgumentError) as caught:
        call(federation)
    assert caught.value.code == code


def test_cohorts_that_would_wrap_or_be_off_are_refused():
    for mode, highest, code in (
        (Mode.BGV, bgv.MAXIMUM_COHORT, "COHORT_TOO_LARGE"),
        (Mode.CKKS, None, "ERROR_BOUND"),
    ):
        key, _ = ceremony(mode)
        if highest is None:
            assert ckks.bound_error(COHORT) < 3e-7
            highest = next(n for n in range(300_000, 500_000) if ckks.bound_error(n + 1) > 1e-6)
        real = RealSection("r", 1, 1.0, 16)
        key.shape(VectorLayout((real,), highest))
        assert key.error_bound(VectorLayout((real,), highest)) <= 1e-6
        for refuse in (key.shape, key.error_bound):
            with pytest.raises(InvalidArgumentError) as caught:
                refuse(VectorLayout((real,), highest + 1))
            assert caught.value.code == code
    # What the modulus of CKKS holds above the scale is never the limit, nor is rounding of counts.
    parameters = ceremony(Mode.CKKS)[0].system.parameters
    modulus = math.prod(parameters.ciphertext_primes)
    assert math.sqrt(2) * highest * parameters.scale < modulus / 4
    assert ckks.MAXIMUM_ERROR * 2**16 < 0.5


def test_bgv_is_the_largest_cohort_of_its_digits():
    modulus = ceremony(Mode.BGV)[0].system.parameters.noise_factor
    assert bgv.MAXIMUM_COHORT * 65_535 < modulus <= (bgv.MAXIMUM_COHORT + 1) * 65_535


def test_no_secret_shows(federation):
    key, shares, _, _ = federation
    for share in shares.values():
        secrets = [part for c in share.components for part in (c.coefficients, c.seed)]
        assert isinstance(share.serialise(), SecretBytes)
        for shown in (repr(share), str(share), repr(share.components)):
            for secret in secrets:
                assert secret.expose()[:8].hex() not in shown
                assert repr(secret.expose())[2:20] not in shown
    assert len(repr(key)) < 300


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_a_chosen_total_gives_the_key_away(mode):
    """What the documents say is not promised: trustees rely on contributions made honestly.

    Whoever could make the sum of all c1 a constant of half the modulus would read from the partial
    decryptions which coefficients of the secret are not zero. It takes the aggregator and a
    contributor that sees all other ciphertexts first.
    """
    key, shares = ceremony(mode)
    parameters, ring = key.system.parameters, key.system.ring
    half = math.prod(parameters.ciphertext_primes) // 2
    chosen = np.zeros((1, 2, len(ring.primes), parameters.degree), np.uint64)
    chosen[0, 1] = np.array([half % prime for prime in ring.primes], np.uint64)[:, None]
    total = canonical.write(parameters, chosen)
    partial = key.pairs(shares[1].partial(key, total, CONTEXT))
    seen = np.abs(ring.fractions(partial[:, 0].astype(np.uint64))[0]) > 0.25
    secret = sampling.coefficients(shares[1].components[0].coefficients)
    assert np.array_equal(seen, secret != 0)
