"""Rings, noise and byte forms of the lattice modes, beside slow references and measured bounds."""

import dataclasses
import math

import numpy as np
import pytest
import seal
from finsecure_crypto.errors import ConfigurationError, IntegrityError
from finsecure_crypto.homomorphic.lattice import canonical, cryptosystem, sampling, seal_bytes
from finsecure_crypto.homomorphic.lattice.cryptosystem import Cryptosystem
from finsecure_crypto.homomorphic.lattice.parameters import (
    BGV,
    CKKS,
    NOISE_COINS,
    SMUDGING_BITS,
    SMUDGING_MAXIMUM,
)
from finsecure_crypto.homomorphic.lattice.ring import Ring
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.secret import SecretBytes

from tests.reference import lattice as reference
from tests.support.crypto import replay, seeded
from tests.support.lattice import CONTEXT, MODES, ceremony, opened, uniform_run

by_parameters = pytest.mark.parametrize("parameters", [BGV, CKKS], ids=["bgv", "ckks"])


@pytest.fixture(scope="module", params=[BGV, CKKS], ids=["bgv", "ckks"])
def small(request):
    """The primes of a mode with N = 16, for which definitions are fast enough."""
    ring = Ring(16, request.param.primes)
    rng = np.random.default_rng(1)
    elements = np.stack(
        [[rng.integers(0, p, 16, dtype=np.uint64) for p in ring.primes] for _ in range(20)]
    )
    return ring, elements


def test_transforms_are_values_at_roots_of_one(small):
    ring, elements = small
    values = ring.forward(elements)
    for index in (0, 14, 15, 19):  # on both sides of a batch
        for row, prime in enumerate(ring.primes):
            coefficients = elements[index, row].tolist()
            assert values[index, row].tolist() == reference.transform(coefficients, prime)
    assert np.array_equal(ring.inverse(values), elements)


def test_products_are_those_of_the_ring(small):
    ring, elements = small
    factor = elements[3]
    values = ring.forward(elements)
    products = ring.inverse(ring.multiply(values, values[3]))
    for index in (0, 3, 19):
        for row, prime in enumerate(ring.primes):
            expected = reference.multiply(
                elements[index, row].tolist(), factor[row].tolist(), prime
            )
            assert products[index, row].tolist() == expected
    assert not ring.multiply(values, np.zeros_like(factor)).any()
    assert not ring.multiply(np.zeros_like(values), values[3]).any()


def test_sums_multiples_and_signs(small):
    ring, elements = small
    whole = elements.astype(object)
    primes = ring.columns.astype(object)
    assert np.array_equal(ring.add(elements, elements[::-1]), (whole + whole[::-1]) % primes)
    assert np.array_equal(ring.negate(elements), -whole % primes)
    assert not ring.negate(np.zeros_like(elements)).any()
    factors = tuple(range(3, 3 + len(ring.primes)))
    scaled = ring.scale(elements, factors)
    assert np.array_equal(scaled, whole * np.array(factors, object)[:, None] % primes)
    doubled = ring.forward(elements, 2)
    assert np.array_equal(doubled, ring.add(*[ring.forward(elements)] * 2))


def test_signed_coefficients_and_fractions(small):
    ring, _ = small
    signed = np.array([[0, 1, -1, 2**60, -(2**60), *range(11)]])
    residues = ring.reduce(signed)
    assert np.array_equal(residues.astype(object), signed.astype(object)[:, None] % ring.columns)
    near = np.array([[0, 1, -1, 20_000, -20_000, *range(11)]])
    assert np.array_equal(ring.centre(ring.reduce(near))[0], np.repeat(near, len(ring.primes), 0))
    modulus = math.prod(ring.primes)
    fractions = ring.fractions(ring.forward(residues))
    assert fractions[0] == pytest.approx([int(x) / modulus for x in signed[0]], abs=1e-14)
    third = np.array([[[modulus // 3 % p] * 16 for p in ring.primes]], np.uint64)
    assert ring.fractions(ring.forward(third)) == pytest.approx(1 / 3, abs=1e-14)


@by_parameters
def test_uniform_elements_are_those_of_the_reference(parameters):
    drawn = sampling.uniform(b"seed", parameters.degree, parameters.primes)
    for row, prime in zip(drawn, parameters.primes, strict=True):
        assert row.tolist() == reference.uniform(b"seed", parameters.degree, prime)


def test_secrets_are_ternary_and_even():
    secret = sampling.ternary(seeded("secret"), 8192)
    counts = np.bincount(sampling.coefficients(secret) + 1, minlength=3)
    assert counts.sum() == 8192
    assert np.abs(counts - 8192 / 3).max() < 250  # six standard deviations
    # Bytes from 252 on would favour some values: they are not looked at.
    drawn = sampling.ternary(replay(bytes([255, 252, 0, 1, 2, 251, 253, 3]) + bytes(64)), 8)
    assert drawn.expose() == bytes([0, 1, 2, 2, 0, 0, 0, 0])


def test_noise_is_a_centred_binomial():
    drawn = seeded("noise")(6 * 4096)
    noise = sampling.noise(replay(drawn), 4096)
    assert noise.tolist() == reference.noise(drawn, 4096)
    assert np.abs(noise).max() <= NOISE_COINS
    assert noise.var() == pytest.approx(10.5, rel=0.1)
    assert sampling.noise(replay(b"\xff" * 12), 2).tolist() == [0, 0]
    assert sampling.noise(replay(b"\xff" * 6 + bytes(6)), 2).tolist() == [21, 21]


def test_flooding_noise_is_a_function_of_seed_and_ciphertext():
    seed = SecretBytes(bytes(range(32)))
    first = sampling.smudging(seed, b"part", 8192)
    assert np.array_equal(first, sampling.smudging(seed, b"part", 8192))
    assert not np.array_equal(first, sampling.smudging(seed, b"past", 8192))
    assert not np.array_equal(first, sampling.smudging(SecretBytes(bytes(32)), b"part", 8192))
    assert np.abs(first).max() <= SMUDGING_MAXIMUM
    # Three uniform integers of 59 bits: variance 3/12 of 2^118.
    assert first.std() == pytest.approx(0.5 * 2**SMUDGING_BITS, rel=0.05)
    assert abs(first.mean()) < 2**SMUDGING_BITS / 25


@by_parameters
def test_canonical_forms_are_those_of_the_reference(parameters):
    rng = np.random.default_rng(1)
    primes = parameters.ciphertext_primes
    pairs = np.stack(
        [[rng.integers(0, p, parameters.degree, dtype=np.uint64) for p in primes] for _ in range(2)]
    )[None]
    written = canonical.write(parameters, pairs)
    assert len(written) == parameters.ciphertext_bytes
    assert written == b"".join(
        reference.pack(row.tolist(), parameters.word_bits, parameters.spare_bits)
        for row in pairs.reshape(-1, parameters.degree)
    )
    assert np.array_equal(canonical.read(parameters, written), pairs)


@by_parameters
def test_a_residue_that_is_not_below_its_prime_is_refused(parameters):
    primes = canonical.columns(parameters)
    for row in range(len(primes)):
        for column in (0, parameters.degree - 1):
            pairs = np.zeros((2, 2, len(primes), parameters.degree), parameters.word)
            pairs[1, 1, row, column] = primes[row, 0] - 1
            assert canonical.read(parameters, canonical.write(parameters, pairs)) is not None
            pairs[1, 1, row, column] += 1
            assert canonical.read(parameters, canonical.write(parameters, pairs)) is None


@pytest.mark.parametrize(
    ("mode", "offset", "bits"), [(Mode.BGV, 28, 40.5), (Mode.CKKS, 0, 46.5)], ids=["bgv", "ckks"]
)
def test_the_noise_of_contributors_is_what_the_documents_say(mode, offset, bits):
    """Measured with the whole secret.

    √(N/6) is random: the rounding of the last prime, which meets the secret. SEAL rounds with a
    bias in BGV, so that each ciphertext has the same part that depends on the key alone.
    """
    key, shares = ceremony(mode)
    parameters, ring = key.system.parameters, key.system.ring
    values = np.zeros(parameters.degree, np.uint64 if parameters.noise_factor > 1 else np.float64)
    encryptor = key.system.encryptor(key.polynomials())
    count = 60
    run = b"".join(
        canonical.write(parameters, key.system.encrypt(encryptor, values)) for _ in range(count)
    )
    inverses = tuple(pow(parameters.noise_factor, -1, prime) for prime in ring.primes)
    every = ring.centre(ring.inverse(ring.scale(opened(key, shares, run), inverses)))
    noise = every[:, 0]
    assert np.array_equal(noise, every[:, 1])
    assert np.abs(noise).max() < 2 + 3 * parameters.degree
    means = noise.mean(axis=0)
    random = (noise - means).std()
    assert random == pytest.approx(math.sqrt(parameters.degree / 6), rel=0.05)
    assert means.std() == pytest.approx(math.hypot(offset, random / math.sqrt(count)), rel=0.2)
    cohort = 10_000
    assert math.log2(2**SMUDGING_BITS / math.hypot(cohort * offset, 100 * random)) > bits


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_a_partial_is_the_product_with_noise_of_the_right_size(mode):
    key, shares = ceremony(mode)
    parameters, ring = key.system.parameters, key.system.ring
    run = uniform_run(key, 2)
    parts = key.pairs(run)[:, 1]
    partial = key.pairs(shares[2].partial(key, run, CONTEXT)).astype(np.uint64)
    for place, component in enumerate(shares[2].components):
        secret = ring.forward(ring.reduce(sampling.coefficients(component.coefficients)[None]))[0]
        product = ring.multiply(parts.astype(np.uint64), secret)
        rest = ring.inverse(ring.add(partial[:, place], ring.negate(product)))
        for index, part in enumerate(parts):
            flood = sampling.smudging(component.seed, part.tobytes(), parameters.degree)
            expected = flood.astype(object) * parameters.noise_factor % ring.columns.astype(object)
            assert np.array_equal(rest[index], expected)


def test_both_holders_of_a_component_send_the_same():
    for mode in MODES:
        key, shares = ceremony(mode)
        run = uniform_run(key, 1)
        sent = {h: key.pairs(share.partial(key, run, CONTEXT)) for h, share in shares.items()}
        for holder in (1, 2, 3):
            assert np.array_equal(sent[holder][:, 0], sent[holder % 3 + 1][:, 1])


def test_flooded_bgv_sums_stay_within_the_modulus():
    half = math.prod(BGV.ciphertext_primes) / 2
    per_client = 2 + 3 * BGV.degree + 1  # switching, and t/2 of the plaintext itself
    noise = 3 * SMUDGING_MAXIMUM + 16_383 * per_client
    assert BGV.noise_factor * noise < 0.6 * half


# What the project takes for granted about SEAL.


def test_primes_and_plaintext_modulus_are_what_seal_and_tenseal_choose():
    for parameters, bits in ((BGV, [31, 31, 31, 16]), (CKKS, [60, 60, 60])):
        created = seal.CoeffModulus.Create(parameters.degree, bits)
        assert tuple(prime.value() for prime in created) == parameters.primes
    assert seal.PlainModulus.Batching(BGV.degree, 30).value() == BGV.noise_factor


@by_parameters
def test_parameters_are_128_bit_secure_by_seals_tables(parameters):
    limit = seal.CoeffModulus.MaxBitCount(parameters.degree, seal.sec_level_type.tc128)
    assert (
        math.prod(parameters.primes).bit_length()
        <= limit
        == {4096: 109, 8192: 218}[parameters.degree]
    )


def test_weaker_parameters_do_not_start():
    weak = dataclasses.replace(BGV, primes=CKKS.primes)
    with pytest.raises(ConfigurationError) as caught:
        Cryptosystem(weak)
    assert caught.value.code == "SEAL_SECURITY"


def test_another_release_does_not_start(monkeypatch):
    monkeypatch.setattr(cryptosystem, "version", lambda _: "4.5.0")
    with pytest.raises(ConfigurationError) as caught:
        Cryptosystem(BGV)
    assert caught.value.code == "SEAL_RELEASE"


@pytest.mark.parametrize(
    ("name", "value"), [("_CIPHERTEXT", "<4QBQQQdQ8x"), ("_OBJECT", "<HBBBBHQ8x")]
)
def test_another_layout_does_not_start(monkeypatch, name, value):
    monkeypatch.setattr(seal_bytes, name, value)
    with pytest.raises(ConfigurationError) as caught:
        Cryptosystem(CKKS)
    assert caught.value.code == "SEAL_LAYOUT"


@by_parameters
def test_other_arithmetic_does_not_start(monkeypatch, parameters):
    monkeypatch.setattr(Ring, "multiply", lambda self, values, factor: values)
    with pytest.raises(ConfigurationError) as caught:
        Cryptosystem(parameters)
    assert caught.value.code == "SEAL_LAYOUT"


def test_seal_bytes_of_another_shape_form_or_size_are_refused():
    parms_id, data = [1, 2, 3, 4], np.arange(12, dtype=np.uint64).reshape(2, 2, 3)
    written = seal_bytes.ciphertext(parms_id, data, 2.0)
    assert len(written) == seal_bytes.ciphertext_bytes(data.shape)
    assert np.array_equal(seal_bytes.residues(written, parms_id, data.shape, 2.0), data)
    for wrong in (
        lambda: seal_bytes.residues(written[:-1], parms_id, data.shape, 2.0),
        lambda: seal_bytes.residues(written + b"\0", parms_id, data.shape, 2.0),
        lambda: seal_bytes.residues(written, [1, 2, 3, 5], data.shape, 2.0),
        lambda: seal_bytes.residues(written, parms_id, (2, 3, 2), 2.0),
        lambda: seal_bytes.residues(written, parms_id, data.shape, 4.0),
        lambda: seal_bytes.residues(written, parms_id, data.shape, 2.0, ntt=False),
        lambda: seal_bytes.residues(written, parms_id, data.shape, 2.0, minor=3),
    ):
        with pytest.raises(IntegrityError):
            wrong()


def test_ckks_parameters_are_written_as_seal_does():
    described = seal.EncryptionParameters(seal.scheme_type.ckks)
    described.set_poly_modulus_degree(CKKS.degree)
    described.set_coeff_modulus([seal.Modulus(prime) for prime in CKKS.primes])
    assert seal_bytes.ckks_parameters(CKKS.degree, CKKS.primes) == described.to_bytes()
