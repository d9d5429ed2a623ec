"""Properties of the primitives, and agreement with the slow references on arbitrary inputs."""

import numpy as np
import pytest
from finsecure_crypto import field, masking, shamir, transcript
from finsecure_crypto.encoding import CountSection, RealSection, VectorLayout, clip_norm
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.merkle import MerkleTree, verify_inclusion
from finsecure_crypto.secret import SecretBytes
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.reference import encoding as slow_encoding
from tests.reference import masks as slow_masks
from tests.reference import merkle as slow_merkle
from tests.reference import shamir as slow_shamir
from tests.reference import transcript as slow_transcript
from tests.support.crypto import FixedNoise, seeded

SLOW = settings(max_examples=40, deadline=None)
P = field.P
ELEMENTS = st.one_of(st.integers(0, P - 1), st.sampled_from([0, 1, P - 1, 2**30]))
PARTS = st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=20), st.integers(0, 2**80)))
LABELS = st.text(st.characters(max_codepoint=127), min_size=1, max_size=10)


@given(LABELS, PARTS)
def test_transcripts_read_back(label, parts):
    encoded = transcript.encode(label, *parts)
    assert encoded == slow_transcript.encode(label, *parts)
    assert slow_transcript.decode(encoded) == (label, parts)


def elements(shape):
    return st.lists(ELEMENTS, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
        lambda values: np.array(values, np.uint64).reshape(shape)
    )


@given(st.integers(0, 2**64 - 1), ELEMENTS, ELEMENTS)
def test_field_operations(wide, a, b):
    left, right = np.array([a], np.uint64), np.array([b], np.uint64)
    assert field.reduce(np.array([wide], np.uint64))[0] == wide % P
    assert field.add(left, right)[0] == (a + b) % P
    assert field.subtract(left, right)[0] == (a - b) % P
    assert field.multiply(left, right)[0] == a * b % P
    assert field.multiply_add(left, right, left)[0] == (a * b + a) % P
    assert field.inverse(left)[0] == (pow(a, -1, P) if a else 0)


@given(st.data(), st.integers(1, 6), st.integers(1, 40), st.integers(1, 5))
@SLOW
def test_matrix_products(data, rows, terms, columns):
    left, right = data.draw(elements((rows, terms))), data.draw(elements((2, terms, columns)))
    expected = np.matmul(left.astype(object), right.astype(object)) % P
    assert field.matmul(left, right).tolist() == expected.tolist()


@pytest.mark.parametrize("terms", [2047, 2048, 2049, 4095, 5000])
def test_matrix_products_stay_exact_at_the_largest_elements(terms):
    for element in (P - 1, P - 2):  # the second is odd, so that a lost last bit shows
        left = np.full((1, terms), element, np.uint64)
        right = np.full((terms, 1), element, np.uint64)
        assert field.matmul(left, right)[0, 0] == element * element * terms % P


@given(st.lists(ELEMENTS, min_size=1, max_size=40), st.lists(ELEMENTS, min_size=1, max_size=8))
@SLOW
def test_polynomials_are_evaluated(coefficients, points):
    got = field.evaluate(np.array([coefficients], np.uint64), np.array(points, np.uint64))[0]
    assert got.tolist() == [slow_shamir.evaluate(coefficients, point) for point in points]


SECRETS = st.binary(min_size=32, max_size=32)
HOLDERS = st.lists(st.integers(1, P - 1), min_size=2, max_size=12, unique=True)


@given(st.lists(SECRETS, max_size=3), HOLDERS, st.data())
@SLOW
def test_any_threshold_of_shares_rebuilds(secrets, holders, data):
    threshold = data.draw(st.integers(2, len(holders)))
    seed = data.draw(st.integers())
    points = np.array(holders, np.uint32)
    shares = shamir.split([SecretBytes(s) for s in secrets], threshold, points, seeded(seed))
    slow = slow_shamir.split(secrets, threshold, holders, seeded(seed))
    assert shares.tolist() == slow

    chosen = data.draw(st.permutations(range(len(holders))))[
        : data.draw(st.integers(threshold, len(holders)))
    ]
    rebuilt = shamir.reconstruct_many(shares[:, chosen], points[chosen], threshold)
    assert [secret.expose() for secret in rebuilt] == secrets
    for held, secret in zip(slow, secrets, strict=True):
        picked = [held[i] for i in chosen]
        assert slow_shamir.reconstruct(picked, [holders[i] for i in chosen], threshold) == secret


@settings(deadline=None)
@given(st.data(), st.integers(0, 2**32))
def test_secrets_held_at_points_of_their_own_are_rebuilt_together(data, seed):
    threshold = data.draw(st.integers(2, 8))
    size = data.draw(st.integers(threshold, 10))
    element = st.integers(1, field.P - 1)
    shares, points, expected = [], [], []
    for row in range(data.draw(st.integers(1, 6))):
        held = data.draw(st.lists(element, min_size=size, max_size=size, unique=True))
        secret = data.draw(st.binary(min_size=32, max_size=32))
        dealt = slow_shamir.split([secret], threshold, held, seeded(seed + row))[0]
        assert slow_shamir.reconstruct(dealt, held, threshold) == secret
        shares.append(dealt)
        points.append(held)
        expected.append(SecretBytes(secret))
    stacked, at = np.array(shares, np.uint32), np.array(points, np.uint32)
    assert shamir.reconstruct_many(stacked, at, threshold) == expected
    one_by_one = [
        shamir.reconstruct_many(stacked[row : row + 1], at[row], threshold)[0]
        for row in range(len(expected))
    ]
    assert one_by_one == expected


@given(SECRETS, st.integers(2, 5), st.integers(0, 3), st.booleans(), st.data())
@SLOW
def test_wrong_shares_are_found(secret, threshold, errors, spare, data):
    count = threshold + 2 * errors + spare
    points = np.array(
        data.draw(st.lists(st.integers(1, P - 1), min_size=count, max_size=count, unique=True)),
        np.uint32,
    )
    shares = shamir.split(
        [SecretBytes(secret)], threshold, points, seeded(data.draw(st.integers()))
    )[0]
    liars = sorted(data.draw(st.permutations(range(count)))[:errors])
    for liar in liars:
        shares[liar] = data.draw(
            elements((9,)).filter(lambda s, i=liar: s.tolist() != shares[i].tolist())
        )
    assert shamir.decode(shares, points, threshold) == (SecretBytes(secret), tuple(liars))


@given(st.integers(2, 3), st.integers(2, 6), st.data())
@settings(max_examples=25, deadline=None)
def test_decoding_agrees_with_trying_everything(threshold, count, data):
    assume(threshold <= count)
    points = list(range(1, count + 1))
    # Few values and equal limbs, so that both decodable and hopeless words come up.
    limb = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    shares = [[value] * 9 for value in limb]
    expected = slow_shamir.decode(shares, points, threshold)
    array, at = np.array(shares, np.uint32), np.array(points, np.uint32)
    if expected is None:
        with pytest.raises(IntegrityError):
            shamir.decode(array, at, threshold)
    else:
        secret, wrong = shamir.decode(array, at, threshold)
        assert (secret.expose(), list(wrong)) == expected


KEYS = st.lists(
    st.tuples(st.binary(min_size=16, max_size=16), st.sampled_from([1, -1])), max_size=4
)


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=12),
    KEYS,
    st.integers(0, 2**32).map(lambda n: 2 * n),
    st.integers(1, 3),
)
@SLOW
def test_masks_agree(vector, keys, first_word, threads):
    words = np.array(vector, np.uint64)
    signed = [(SecretBytes(key), sign) for key, sign in keys]
    if 8 * (first_word + len(vector)) > masking.MAX_KEYSTREAM_BYTES:
        with pytest.raises(InvalidArgumentError):
            masking.apply_masks(words, signed, first_word=first_word)
    else:
        masking.apply_masks(words, signed, first_word=first_word, threads=threads)
        assert words.tolist() == slow_masks.apply(vector, keys, first_word)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40), st.data())
def test_trees_agree_and_proofs_hold_for_their_leaf_alone(leaves, data):
    tree = MerkleTree(leaves)
    assert tree.root == slow_merkle.tree_hash(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = tree.inclusion_proof(index)
    assert proof == slow_merkle.inclusion_proof(leaves, index)
    assert verify_inclusion(tree.root, len(leaves), index, leaves[index], proof)
    other = data.draw(st.integers(0, len(leaves) - 1))
    if leaves[other] != leaves[index]:
        assert not verify_inclusion(tree.root, len(leaves), other, leaves[index], proof)
        assert not verify_inclusion(tree.root, len(leaves), index, leaves[other], proof)
    if proof:
        assert not verify_inclusion(tree.root, len(leaves), index, leaves[index], proof[:-1])
    assert not verify_inclusion(tree.root, len(leaves), index, leaves[index], [*proof, bytes(32)])


@st.composite
def layouts(draw):
    cohort = draw(st.integers(1, 300))
    sections = []
    for i in range(draw(st.integers(1, 4))):
        length = draw(st.integers(1, 9))
        if draw(st.booleans()):
            sections.append(("count", f"s{i}", length, draw(st.integers(1, 2**54))))
        else:
            bound = draw(st.floats(1e-6, 1e6))
            sections.append(("real", f"s{i}", length, bound, draw(st.integers(2, 40))))
    return sections, cohort


def fast_layout(sections, cohort):
    kinds = {"count": CountSection, "real": RealSection}
    return VectorLayout(tuple(kinds[kind](*rest) for kind, *rest in sections), cohort)


@given(layouts(), st.data())
@SLOW
def test_sums_of_encodings_are_exact(drawn, data):
    sections, cohort = drawn
    widest = max(slow_encoding.lane_bits(section, cohort) for section in sections)
    if widest > 64:
        with pytest.raises(InvalidArgumentError):
            fast_layout(sections, cohort)
        return
    layout = fast_layout(sections, cohort)
    contributors = data.draw(st.integers(1, min(cohort, 4)))
    total = np.zeros(layout.words, np.uint64)
    sums = {section[1]: [0] * section[2] for section in sections}
    errors = {section[1]: [0.0] * section[2] for section in sections}
    for _ in range(contributors):
        values, noise = {}, []
        for kind, name, length, limit, *_ in sections:
            if kind == "count":
                drawn_values = st.lists(st.integers(0, limit), min_size=length, max_size=length)
                values[name] = np.array(data.draw(drawn_values), np.uint64)
            else:
                reals = st.floats(-2 * limit, 2 * limit)
                values[name] = np.array(
                    data.draw(st.lists(reals, min_size=length, max_size=length)), np.float64
                )
                noise += data.draw(
                    st.lists(st.floats(0, 1, exclude_max=True), min_size=length, max_size=length)
                )
        words = layout.encode(values, FixedNoise(noise))
        assert words.tolist() == slow_encoding.encode(sections, cohort, values, iter(noise))
        own = slow_encoding.decode_integers(sections, cohort, words.tolist(), 1)
        for name, integers in own.items():
            sums[name] = [a + b for a, b in zip(sums[name], integers, strict=True)]
        for kind, name, _, limit, *_ in sections:
            if kind == "real":
                errors[name] += np.clip(values[name], -limit, limit)
        total += words
    decoded = layout.decode_integers(total, contributors)
    assert {name: integers.tolist() for name, integers in decoded.items()} == sums
    reals = layout.decode(total, contributors)
    for kind, name, _, limit, *bits in sections:
        if kind == "real":
            step = limit / (2 ** (bits[0] - 1) - 1)
            assert np.all(np.abs(reals[name] - errors[name]) <= contributors * step * (1 + 1e-6))


@given(st.lists(st.floats(-1e6, 1e6), max_size=20), st.floats(1e-3, 1e3))
def test_clipped_norms(values, norm):
    vector = np.array(values, np.float64)
    clipped = clip_norm(vector, norm)
    assert np.linalg.norm(clipped) <= norm * (1 + 1e-9)
    if np.linalg.norm(vector) <= norm * (1 - 1e-9):
        assert np.array_equal(clipped, vector)
