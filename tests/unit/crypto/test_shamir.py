"""Shamir's sharing agrees with its vectors and refuses what would weaken it."""

import numpy as np
import pytest
from finsecure_crypto import field, gao, shamir
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.secret import SecretBytes

from tests.support.crypto import replay, seeded, vectors
from tests.vectors.shamir.generate import content

VECTORS = vectors("shamir")
DECODING = VECTORS["decoding"]
SECRET = SecretBytes(bytes(range(32)))
POINTS = np.arange(1, 6, dtype=np.uint32)


def read(shares):
    return shamir.shares_from_bytes(bytes.fromhex("".join(shares)))


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: case["name"])
def test_vectors(case):
    secrets = [SecretBytes(bytes.fromhex(secret)) for secret in case["secrets"]]
    points = np.array(case["points"], np.uint32)
    random = replay(bytes.fromhex(case["random"]))
    shares = shamir.split(secrets, case["threshold"], points, random)
    written = [shamir.shares_to_bytes(held).hex() for held in shares]
    assert written == ["".join(held) for held in case["shares"]]
    stacked = np.stack([read(held) for held in case["shares"]])
    assert shamir.reconstruct_many(stacked, points, case["threshold"]) == secrets


@pytest.mark.parametrize("case", DECODING["valid"], ids=lambda case: case["why"])
def test_decoding(case):
    points = np.array(DECODING["points"], np.uint32)
    secret, wrong = shamir.decode(read(case["shares"]), points, DECODING["threshold"])
    assert secret.expose().hex() == DECODING["secret"]
    assert list(wrong) == case["wrong"]


@pytest.mark.parametrize("case", DECODING["invalid"], ids=lambda case: case["why"])
def test_decoding_beyond_its_radius(case):
    points = np.array(DECODING["points"], np.uint32)
    with pytest.raises(IntegrityError) as caught:
        shamir.decode(read(case["shares"]), points, DECODING["threshold"])
    assert caught.value.code == "SHARES_NOT_DECODABLE"


@pytest.mark.parametrize("case", VECTORS["malformed"], ids=lambda case: case["why"])
def test_malformed_shares(case):
    good = shamir.split([SECRET], 2, POINTS)[0]
    with pytest.raises(IntegrityError) as caught:
        shamir.shares_from_bytes(shamir.shares_to_bytes(good) + bytes.fromhex(case["share"]))
    assert caught.value.code == "SHARE_MALFORMED"
    assert f"share {case['index']}" in caught.value.message


def test_vectors_are_what_the_generator_writes():
    assert content() == VECTORS


def test_shares_of_a_value_that_no_secret_has_do_not_decode():
    # Nine limbs of 2^30 each: a codeword, but not one that split() makes.
    shares = np.full((5, shamir.LIMBS), 2**30, np.uint32)
    with pytest.raises(IntegrityError):
        shamir.decode(shares, POINTS, 2)


@pytest.mark.parametrize("seed", range(20))
def test_values_on_no_polynomial_are_not_decodable(seed):
    # 3 of 7 random values agree with any parabola; 5 do so once in about 2^62.
    values = np.random.default_rng(seed).integers(0, 2**31 - 1, (1, 7), dtype=np.uint64)
    with pytest.raises(IntegrityError):
        gao.decode(values, np.arange(1, 8, dtype=np.uint64), 3)


def test_one_share_less_says_nothing():
    # For t - 1 shares and any other secret there are coefficients that give the same shares.
    shares = shamir.split([SECRET], 3, POINTS, seeded(1))[0]
    for claimed in (SecretBytes(bytes(32)), SecretBytes(b"\x5a" * 32)):
        limbs = [(int.from_bytes(claimed.expose(), "little") >> (30 * i)) % 2**30 for i in range(9)]
        forged = np.vstack([np.array(limbs, np.uint32), shares[:2]])
        fitted = field.evaluate(
            gao.decode(forged.T.astype(np.uint64), np.array([0, 1, 2], np.uint64), 3),
            np.array([1, 2, 9], np.uint64),
        )
        points = np.array([1, 2, 9], np.uint32)
        assert shamir.reconstruct_many(fitted.T[None].astype(np.uint32), points, 3) == [claimed]


@pytest.mark.parametrize("threshold", [-1, 0, 1, 6])
def test_thresholds_are_refused(threshold):
    with pytest.raises(InvalidArgumentError) as caught:
        shamir.split([SECRET], threshold, POINTS)
    assert caught.value.code == "SHARE_THRESHOLD"
    with pytest.raises(InvalidArgumentError):
        shamir.reconstruct_many(np.zeros((1, 5, 9), np.uint32), POINTS, threshold)
    with pytest.raises(InvalidArgumentError):
        shamir.decode(np.zeros((5, 9), np.uint32), POINTS, threshold)


@pytest.mark.parametrize(
    "points",
    [
        np.array([0, 1, 2], np.uint32),
        np.array([1, 2, 2], np.uint32),
        np.array([1, 2, 2**31 - 1], np.uint32),
        np.array([1, 2, 2**32 - 1], np.uint32),
        np.array([1, 2, 3], np.int64),
        np.array([[1, 2, 3]], np.uint32),
    ],
)
def test_points_are_refused(points):
    with pytest.raises(InvalidArgumentError) as caught:
        shamir.split([SECRET], 2, points)
    assert caught.value.code == "SHARE_POINTS"


@pytest.mark.parametrize(
    "shares",
    [
        np.zeros((5, 9), np.uint32),
        np.zeros((1, 4, 9), np.uint32),
        np.zeros((1, 5, 8), np.uint32),
        np.zeros((1, 5, 9), np.uint64),
        np.full((1, 5, 9), 2**31 - 1, np.uint32),
    ],
)
def test_share_arrays_are_refused(shares):
    with pytest.raises(InvalidArgumentError) as caught:
        shamir.reconstruct_many(shares, POINTS, 2)
    assert caught.value.code == "SHARE_SHAPE"


@pytest.mark.parametrize(
    ("points", "code"),
    [
        (np.array([[1, 2, 3], [1, 2, 2]], np.uint32), "SHARE_POINTS"),
        (np.array([[1, 2, 3], [0, 1, 2]], np.uint32), "SHARE_POINTS"),
        (np.array([[[1, 2, 3]], [[1, 2, 3]]], np.uint32), "SHARE_POINTS"),
        (np.array([[1, 2, 3]], np.uint32), "SHARE_SHAPE"),
        (np.array([[1, 2, 3]] * 3, np.uint32), "SHARE_SHAPE"),
        (np.array([[1, 2]] * 2, np.uint32), "SHARE_SHAPE"),
    ],
)
def test_points_of_each_secret_are_checked(points, code):
    with pytest.raises(InvalidArgumentError) as caught:
        shamir.reconstruct_many(np.zeros((2, 3, 9), np.uint32), points, 2)
    assert caught.value.code == code


@pytest.mark.parametrize("length", [0, 31, 33])
def test_secrets_of_another_length_are_refused(length):
    with pytest.raises(InvalidArgumentError) as caught:
        shamir.split([SecretBytes(bytes(length))], 2, POINTS)
    assert caught.value.code == "SECRET_LENGTH"


def test_nothing_to_split_or_rebuild():
    assert shamir.split([], 2, POINTS).shape == (0, 5, 9)
    assert shamir.reconstruct_many(np.zeros((0, 5, 9), np.uint32), POINTS, 2) == []
    assert shamir.shares_from_bytes(b"").shape == (0, 9)


def test_a_thousand_holders():
    points = np.arange(1, 1001, dtype=np.uint32)
    secrets = [SECRET, SecretBytes(b"\xff" * 32)]
    shares = shamir.split(secrets, 667, points)
    chosen = np.random.default_rng(1).permutation(1000)
    assert shamir.reconstruct_many(shares[:, chosen], points[chosen], 667) == secrets
    # The most that can be wrong, in one limb each, and one more.
    liars = np.sort(chosen[:167])
    held = shares[0].copy()
    held[liars[:166], liars[:166] % 9] ^= 1
    assert shamir.decode(held, points, 667) == (SECRET, tuple(liars[:166].tolist()))
    held[liars[166], 0] ^= 1
    with pytest.raises(IntegrityError):
        shamir.decode(held, points, 667)
