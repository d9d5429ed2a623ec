"""Plain TenSEAL encrypts for trustees, and decrypts what FinSecure encrypted."""

import subprocess
import sys

import numpy as np
import pytest
import tenseal
from finsecure_crypto.encoding import CountSection, RealSection, VectorLayout, rounding_generator
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.homomorphic import tenseal_format
from finsecure_crypto.homomorphic.lattice import sampling, seal_bytes
from finsecure_crypto.homomorphic.lattice.parameters import CKKS
from finsecure_crypto.homomorphic.mode import Mode

from tests.support.crypto import seeded
from tests.support.federation import ROOT
from tests.support.lattice import CONTEXT, HOLDERS, PAIRS, ceremony

LAYOUT = VectorLayout(
    (CountSection("weight", 2, 2**20), RealSection("update", 10_000, 0.5, 16)), 10
)
ODD = VectorLayout((RealSection("update", 100, 2.0, 16),), 10)  # one ciphertext of TenSEAL's


def values(client, layout=LAYOUT):
    rng = np.random.default_rng(client)
    given = {"weight": rng.integers(0, 2**20, 2), "update": rng.uniform(-0.5, 0.5, 10_000)}
    return given if layout is LAYOUT else {"update": rng.uniform(-2, 2, 100)}


def tenseal_vector(key, layout, given):
    """What a client with plain TenSEAL sends."""
    context = tenseal.context_from(tenseal_format.write_context(key))
    assert not context.is_private()
    slots = tenseal_format.spread(key, layout, given, rounding_generator(seeded("rounding")))
    return tenseal.ckks_vector(context, slots).serialize()


def private_context(key, shares):
    """A context with the whole secret key, as no federation has it."""
    secret = sum(sampling.coefficients(shares[h].components[0].coefficients) for h in HOLDERS)
    ring = key.system.key_ring
    whole = ring.forward(ring.reduce(secret[None]))[0]
    data = seal_bytes.plaintext(key.system.key_parms_id, whole, 1.0, minor=3)
    inner = b"\x0a" + varint(len(data)) + data  # TenSEALPrivateProto.secret_key
    return tenseal.context_from(
        tenseal_format.write_context(key) + b"\x1a" + varint(len(inner)) + inner
    )


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


@pytest.fixture(scope="module")
def trust():
    return ceremony(Mode.CKKS)


@pytest.mark.parametrize("layout", [LAYOUT, ODD], ids=["three of four", "one"])
def test_trustees_open_a_sum_with_an_input_of_tenseal(trust, layout):
    key, shares = trust
    theirs = tenseal_format.read_vector(key, layout, tenseal_vector(key, layout, values(1, layout)))
    assert key.check(theirs) == key.shape(layout).count
    ours = b"".join(key.encrypt(layout, values(2, layout), rounding_generator()))
    total = key.add(theirs, ours)
    partials = {holder: shares[holder].partial(key, total, CONTEXT) for holder in HOLDERS}
    for pair in PAIRS:
        sums = key.combine(layout, 2, total, {h: partials[h] for h in pair}, CONTEXT)
        for section in layout.sections:
            plain = sum(values(client, layout)[section.name] for client in (1, 2))
            if section.name == "weight":
                assert np.array_equal(sums["weight"], plain)
            else:
                off = np.abs(sums["update"] - plain).max()
                assert off <= key.error_bound(layout) * section.bound


def test_tenseal_decrypts_ours_with_a_whole_key(trust):
    key, shares = trust
    context = private_context(key, shares)
    given = values(3)
    run = b"".join(key.encrypt(LAYOUT, given, rounding_generator()))
    vector = tenseal.ckks_vector_from(context, tenseal_format.write_vector(key, run))
    decrypted = np.array(vector.decrypt())
    expected = tenseal_format.spread(key, LAYOUT, given, rounding_generator())
    assert decrypted[: len(expected)] == pytest.approx(expected, abs=1e-9)


def test_a_vector_survives_the_way_to_tenseal_and_back(trust):
    key, shares = trust
    context = private_context(key, shares)
    theirs = tenseal_vector(key, LAYOUT, values(4))
    run = tenseal_format.read_vector(key, LAYOUT, theirs)
    back = tenseal.ckks_vector_from(context, tenseal_format.write_vector(key, run))
    again = tenseal.ckks_vector_from(context, theirs)
    assert back.decrypt()[: len(again.decrypt())] == pytest.approx(again.decrypt(), abs=1e-9)


def test_values_are_checked_before_tenseal_gets_them(trust):
    with pytest.raises(InvalidArgumentError):
        tenseal_format.spread(trust[0], ODD, {"update": np.zeros(99)}, rounding_generator())


def refused(key, data, layout=ODD):
    with pytest.raises(IntegrityError) as caught:
        tenseal_format.read_vector(key, layout, data)
    assert caught.value.code == "TENSEAL_MALFORMED"


def test_vectors_of_other_sizes_scales_keys_and_levels_are_refused(trust):
    key, _ = trust
    good = tenseal_vector(key, ODD, values(1, ODD))
    tenseal_format.read_vector(key, ODD, good)
    refused(key, good, LAYOUT)
    refused(key, b"")
    refused(key, b"\x08\x64")  # one size, no ciphertext: kills a process that trusts it
    context = tenseal.context_from(tenseal_format.write_context(key))
    refused(key, tenseal.ckks_vector(context, [0.5] * 100).serialize())  # not filled up
    slots = [0.5] * (CKKS.degree // 2)
    refused(key, tenseal.ckks_vector(context, slots, scale=2.0**80).serialize())
    other = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 60])
    other.global_scale = 2.0**40
    refused(key, tenseal.ckks_vector(other, slots).serialize())


def test_a_thousand_mutations_crash_nothing(trust):
    key, _ = trust
    good = tenseal_vector(key, ODD, values(1, ODD))
    before = tenseal_format.read_vector(key, ODD, good)
    rng, codes, intact = np.random.default_rng(7), set(), 0
    for turn in range(1000):
        data = bytearray(good)
        match turn % 4:
            case 0:  # where the structure is
                data[rng.integers(40)] ^= 1 << rng.integers(8)
            case 1:
                data[rng.integers(len(data))] ^= 1 << rng.integers(8)
            case 2:
                del data[rng.integers(len(data)) :]
            case _:
                start = int(rng.integers(len(data)))
                data[start : start + 8] = rng.bytes(int(rng.integers(16)))
        try:
            run = tenseal_format.read_vector(key, ODD, bytes(data))
        except IntegrityError as error:
            codes.add(error.code)
        else:
            # Zstandard has no checksum here: other residues, which are checked like any others.
            assert key.check(run) == 1
            intact += run == before
    assert codes == {"TENSEAL_MALFORMED"}
    assert intact < 20  # a few bits of Zstandard's frames mean nothing


def test_the_example_runs():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "tenseal" / "exchange.py")],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert "100 + 101 + 102 = 303" in done.stdout
