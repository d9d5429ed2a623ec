"""Properties of the lattice modes: any inputs add up, and no damaged bytes make another sum."""

import numpy as np
import pytest
from finsecure_crypto.encoding import CountSection, RealSection, VectorLayout, rounding_generator
from finsecure_crypto.errors import FinSecureError, IntegrityError
from finsecure_crypto.homomorphic import registry
from finsecure_crypto.homomorphic.lattice import canonical, digits
from finsecure_crypto.homomorphic.lattice.messages import (
    Commitment,
    Confirmation,
    Contribution,
    Handover,
    Opening,
)
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.secret import SecretBytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.crypto import seeded
from tests.support.lattice import (
    CONTEXT,
    MODES,
    PAIRS,
    ceremony,
    commit,
    contribute,
    finish,
    opened,
    reveal,
    uniform_run,
)

by_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
LAYOUT = VectorLayout((CountSection("c", 3, 2**40), RealSection("r", 50, 0.5, 16)), 10_000)
GIVEN = {"c": np.array([0, 5, 2**40]), "r": np.linspace(-0.5, 0.5, 50)}
MUTATIONS = 1000


def mutations(data, count=MUTATIONS, seed=0):
    """Flips bits, cuts, lengthens, overwrites and swaps: each result differs from the original."""
    rng = np.random.default_rng(seed)
    made = 0
    while made < count:
        changed = bytearray(data)
        at = int(rng.integers(len(data)))
        match made % 6:
            case 0 | 1:
                changed[at] ^= 1 << int(rng.integers(8))
            case 2:
                at %= min(len(data), 64)  # heads are where the structure is
                changed[at] ^= 1 << int(rng.integers(8))
            case 3:
                changed[at : at + 16] = rng.bytes(min(16, len(data) - at))
            case 4:
                changed[at : at + 8] = b"\xff" * min(8, len(data) - at)
            case _ if rng.integers(2):
                del changed[at:]
            case _:
                changed += rng.bytes(int(rng.integers(1, 9)))
        if bytes(changed) != data:
            made += 1
            yield bytes(changed)


def assert_refused_or_other(read, data, code, wrap=bytes, count=MUTATIONS):
    """Reading damaged bytes gives another object with these very bytes, or the one error."""
    refused = 0
    for changed in mutations(data, count):
        try:
            other = read(wrap(changed))
        except IntegrityError as error:
            refused += error.code == code
        else:
            assert bytes_of(other) == changed
            continue
    assert refused > count / 4


def bytes_of(item):
    written = item.serialise() if hasattr(item, "serialise") else item.to_bytes()
    return written.expose() if isinstance(written, SecretBytes) else written


@by_mode
def test_damaged_keys_are_refused_or_other_keys(mode):
    key, _ = ceremony(mode)
    assert_refused_or_other(
        lambda data: registry.load_key(mode, data), key.serialise(), "KEY_MALFORMED"
    )


@by_mode
def test_damaged_shares_are_refused_or_other_shares(mode):
    _, shares = ceremony(mode)
    data = shares[1].serialise().expose()
    assert_refused_or_other(
        lambda changed: registry.load_share(mode, changed), data, "KEY_MALFORMED", SecretBytes
    )


@by_mode
def test_keys_and_shares_of_the_other_mode_are_refused(mode):
    other = Mode.CKKS if mode is Mode.BGV else Mode.BGV
    key, shares = ceremony(mode)
    for read in (
        lambda: registry.load_key(other, key.serialise()),
        lambda: registry.load_share(other, shares[1].serialise()),
    ):
        with pytest.raises(IntegrityError) as caught:
            read()
        assert caught.value.code == "KEY_MALFORMED"


@by_mode
def test_damaged_messages_of_a_ceremony_are_refused_or_other_messages(mode):
    states, commitments = commit(mode)
    states, openings = reveal(states, commitments)
    states, contributions, handovers = contribute(states, openings)
    _, confirmations = finish(states, contributions, handovers)
    for kind, message in (
        (Commitment, commitments[1]),
        (Opening, openings[1]),
        (Contribution, contributions[1]),
        (Confirmation, confirmations[1]),
        (Handover, handovers[1]),
    ):
        wrap = SecretBytes if kind is Handover else bytes
        assert_refused_or_other(kind.from_bytes, bytes_of(message), "CEREMONY_MALFORMED", wrap)


def damaged_inputs(mode, count):
    """Damages one ciphertext, and looks at what would be opened with the whole secret."""
    key, shares = ceremony(mode)
    run = b"".join(key.encrypt(LAYOUT, GIVEN, rounding_generator()))
    refused = 0
    for changed in mutations(run, count):
        try:
            assert key.check(changed) == 1
        except IntegrityError as error:
            refused += error.code == "CIPHERTEXT_MALFORMED"
            continue
        slots = key.system.read(opened(key, shares, changed)[0])
        with pytest.raises(IntegrityError) as caught:
            key.gather(LAYOUT, 1, slots)
        assert caught.value.code == "SUM_OUT_OF_RANGE"
    assert refused > count / 6


def damaged_partials(mode, count):
    """Damages what one of two trustees sends."""
    key, shares = ceremony(mode)
    run = b"".join(key.encrypt(LAYOUT, GIVEN, rounding_generator()))
    partials = {holder: shares[holder].partial(key, run, CONTEXT) for holder in (1, 2)}
    key.combine(LAYOUT, 1, run, partials, CONTEXT)
    codes, culprits = set(), set()
    for changed in mutations(partials[2], count):
        try:
            key.combine(LAYOUT, 1, run, {1: partials[1], 2: changed}, CONTEXT)
        except FinSecureError as error:
            codes.add(error.code)
            culprits.add(error.culprit)
        else:
            pytest.fail("a damaged partial opened something")
    assert codes <= {"PARTIAL_INVALID", "PARTIALS_DISAGREE", "SUM_OUT_OF_RANGE"}
    assert culprits <= {"2", None}


@by_mode
def test_damaged_ciphertexts_are_refused_or_open_to_nothing(mode):
    damaged_inputs(mode, 120)


@by_mode
def test_damaged_partials_open_nothing(mode):
    damaged_partials(mode, 60)


@pytest.mark.slow
@by_mode
def test_a_thousand_damaged_ciphertexts_are_refused_or_open_to_nothing(mode):
    damaged_inputs(mode, MUTATIONS)


@pytest.mark.slow
@by_mode
def test_a_thousand_damaged_partials_open_nothing(mode):
    damaged_partials(mode, MUTATIONS)


@by_mode
def test_a_thousand_damaged_runs_never_reach_seal(mode, monkeypatch):
    """Parsing and adding is numpy alone, as long as nothing is opened."""
    key, _ = ceremony(mode)
    run = uniform_run(key, 1)
    monkeypatch.setattr(type(key.system), "read", None)
    monkeypatch.setattr(type(key.system.ring), "_apply", None)
    codes = set()
    for changed in mutations(run):
        try:
            assert key.check(key.add(run, changed)) == 1
        except FinSecureError as error:
            codes.add(error.code)
    assert codes == {"RUN_LENGTH", "CIPHERTEXT_MALFORMED"}


sections = st.lists(
    st.one_of(
        st.builds(
            lambda length, maximum: ("count", length, maximum),
            st.integers(1, 5),
            st.integers(1, 2**44),
        ),
        st.builds(
            lambda length, bits, bound: ("real", length, bits, bound),
            st.integers(1, 5),
            st.integers(2, 40),
            st.floats(2**-60, 2**60),
        ),
    ),
    min_size=1,
    max_size=4,
)


def layout_of(described, cohort):
    return VectorLayout(
        tuple(
            CountSection(str(i), length, detail[0])
            if kind == "count"
            else RealSection(str(i), length, detail[1], detail[0])
            for i, (kind, length, *detail) in enumerate(described)
        ),
        cohort,
    )


@by_mode
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(described=sections, clients=st.integers(1, 3), pair=st.sampled_from(PAIRS), data=st.data())
def test_any_inputs_open_to_their_plain_sum(mode, described, clients, pair, data):
    key, shares = ceremony(mode)
    layout = layout_of(described, cohort=2**14 - 1)
    inputs = []
    for _ in range(clients):
        values = {}
        for section in layout.sections:
            size = section.length
            if isinstance(section, CountSection):
                element = st.integers(0, section.maximum)
                drawn = data.draw(st.lists(element, min_size=size, max_size=size))
                values[section.name] = np.array(drawn, np.uint64)
            else:
                element = st.floats(-2 * section.bound, 2 * section.bound)
                drawn = data.draw(st.lists(element, min_size=size, max_size=size))
                values[section.name] = np.array(drawn, np.float64)
        inputs.append(values)
    total = b""
    words = np.zeros(layout.words, np.uint64)
    for client, values in enumerate(inputs):
        words += layout.encode(values, rounding_generator(seeded(client)))
        run = b"".join(key.encrypt(layout, values, rounding_generator(seeded(client))))
        total = key.add(total, run) if total else run
    partials = {holder: shares[holder].partial(key, total, CONTEXT) for holder in pair}
    sums = key.combine(layout, clients, total, partials, CONTEXT)
    plain = layout.decode(words, clients)
    for section in layout.sections:
        if mode is Mode.BGV or isinstance(section, CountSection):
            assert np.array_equal(sums[section.name], plain[section.name])
        else:
            bound = section.bound
            exact = sum(np.clip(values[section.name], -bound, bound) for values in inputs)
            assert np.abs(sums[section.name] - exact).max() <= key.error_bound(layout) * bound


@given(
    st.integers(1, 2**50),
    st.lists(st.integers(0, 2**50), min_size=1, max_size=5),
    st.integers(1, 9),
)
def test_digits_come_back(maximum, values, contributors):
    section = CountSection("c", len(values), maximum)
    integers = np.array([value % (maximum + 1) for value in values], np.uint64)
    parts = digits.split(section, integers)
    assert parts.shape == (digits.count(section), len(values))
    assert parts.max() < 2**16
    joined = digits.join(section, parts * np.uint64(contributors), contributors)
    assert np.array_equal(joined, integers * np.uint64(contributors))
    top = parts.copy()
    top[-1, 0] = (maximum >> (16 * (len(parts) - 1))) * contributors + 1
    with pytest.raises(IntegrityError):
        digits.join(section, top, contributors)


@by_mode
@settings(max_examples=20, deadline=None)
@given(seed=st.binary(min_size=1, max_size=8))
def test_adding_is_commutative_canonical_and_modular(mode, seed):
    key, _ = ceremony(mode)
    first, second = uniform_run(key, 1, seed + b"1"), uniform_run(key, 1, seed + b"2")
    total = key.add(first, second)
    assert total == key.add(second, first)
    primes = canonical.columns(key.system.parameters).astype(object)
    expected = (key.pairs(first).astype(object) + key.pairs(second).astype(object)) % primes
    assert np.array_equal(key.pairs(total), expected)
