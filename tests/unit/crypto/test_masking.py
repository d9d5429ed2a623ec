"""Masks agree with AES and with their vectors, and ranges beyond the keystream are refused."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from finsecure_crypto import masking
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.secret import SecretBytes

from tests.reference import aes
from tests.support.crypto import seeded, vectors
from tests.vectors.masks.generate import content

VECTORS = vectors("masks")
AES = vectors("aes")


def keys(count):
    random = seeded("masks")
    return [(SecretBytes(random(16)), 1 if i % 3 else -1) for i in range(count)]


def by_whole_keystream(vector, signed, first_word=0):
    """Adds each mask in one piece, without tiles."""
    result = vector.copy()
    for key, sign in signed:
        cipher = Cipher(algorithms.AES128(key.expose()), modes.CTR(bytes(16))).encryptor()
        stream = np.frombuffer(cipher.update(bytes(8 * (first_word + result.size))), "<u8")
        result += stream[first_word:] if sign > 0 else (0 - stream[first_word:])
    return result


def test_reference_aes_is_the_standards():
    block = {name: bytes.fromhex(value) for name, value in AES["block"].items()}
    assert aes.encrypt_block(block["key"], block["plaintext"]) == block["ciphertext"]
    case = {name: bytes.fromhex(value) for name, value in AES["counter"].items()}
    stream = aes.counter_keystream(case["key"], int.from_bytes(case["counter"], "big"), 4)
    assert (
        bytes(a ^ b for a, b in zip(stream, case["plaintext"], strict=True)) == case["ciphertext"]
    )


@pytest.mark.parametrize("case", VECTORS["valid"])
def test_vectors(case):
    words = np.array([int(word) for word in case["vector"]], np.uint64)
    signed = [(SecretBytes(bytes.fromhex(k["key"])), k["sign"]) for k in case["keys"]]
    masking.apply_masks(words, signed, first_word=case["first_word"])
    assert words.tolist() == [int(word) for word in case["masked"]]


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: case["why"])
def test_refused(case):
    words = np.zeros(case["words"], np.uint64)
    signed = [(SecretBytes(bytes.fromhex(case["key"])), case["sign"])]
    with pytest.raises(InvalidArgumentError) as caught:
        masking.apply_masks(words, signed, first_word=case["first_word"])
    assert caught.value.code in {"MASK_KEY", "MASK_RANGE"}
    assert not words.any()


def test_vectors_are_what_the_generator_writes():
    assert content() == VECTORS


TILE = masking._TILE_WORDS


@pytest.mark.parametrize("size", [0, 1, 2, TILE - 1, TILE, TILE + 1, 3 * TILE + 5])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_tiles_and_threads_do_not_show(size, threads):
    vector = np.arange(size, dtype=np.uint64)
    expected = by_whole_keystream(vector, keys(3))
    masking.apply_masks(vector, keys(3), threads=threads)
    assert np.array_equal(vector, expected)


def test_groups_of_contexts_do_not_show():
    signed = keys(2 * masking._GROUP + 1)
    vector = np.zeros(33, np.uint64)
    expected = by_whole_keystream(vector, signed)
    masking.apply_masks(vector, signed)
    assert np.array_equal(vector, expected)


def test_slices_of_a_vector_are_masked_apart():
    whole = np.zeros(2 * TILE + 7, np.uint64)
    expected = by_whole_keystream(whole, keys(2))
    for start, end in [(0, 10), (10, TILE + 4), (TILE + 4, whole.size)]:
        masking.apply_masks(whole[start:end], keys(2), first_word=start, threads=2)
    assert np.array_equal(whole, expected)


def test_masks_cancel():
    vector = np.arange(1000, dtype=np.uint64)
    signed = keys(5)
    masking.apply_masks(vector, signed)
    assert not np.array_equal(vector, np.arange(1000))
    masking.apply_masks(vector, [(key, -sign) for key, sign in signed])
    assert np.array_equal(vector, np.arange(1000))


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(4, np.int64),
        np.zeros(4, ">u8"),
        np.zeros(4, np.float64),
        np.zeros((2, 2), np.uint64),
        np.zeros(8, np.uint64)[::2],
        np.frombuffer(bytes(32), np.uint64),
    ],
)
def test_accumulators_are_refused(vector):
    with pytest.raises(InvalidArgumentError) as caught:
        masking.apply_masks(vector, keys(1))
    assert caught.value.code == "VECTOR_SHAPE"


def test_no_thread_is_refused():
    with pytest.raises(InvalidArgumentError):
        masking.apply_masks(np.zeros(2, np.uint64), keys(1), threads=0)


def test_masks_take_every_value():
    vector = np.zeros(2**16, np.uint64)
    masking.apply_masks(vector, keys(1)[:1])
    octets = np.bincount(vector.view(np.uint8), minlength=256)
    # 2^19 octets, 2048 expected of each value; seven standard deviations are about 317.
    assert octets.min() > 1731
    assert octets.max() < 2365
