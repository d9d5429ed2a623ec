"""Properties of Paillier with trustees at a key size for tests, and hostile bytes in each form."""

import hashlib
import random
from itertools import product

import numpy as np
import pytest
from finsecure_crypto.encoding import VectorLayout, rounding_generator
from finsecure_crypto.errors import (
    FinSecureError,
    IntegrityError,
    InvalidArgumentError,
    ProtocolViolationError,
)
from finsecure_crypto.homomorphic.paillier import PaillierKey, PaillierShare
from finsecure_crypto.homomorphic.paillier.blinding import Blinder
from finsecure_crypto.homomorphic.paillier.integers import product_of_powers, uniform
from finsecure_crypto.homomorphic.paillier.key_format import parse_key, write_key
from finsecure_crypto.homomorphic.paillier.modulus import Modulus
from finsecure_crypto.secret import SecretBytes
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.crypto.test_properties import fast_layout, layouts
from tests.reference import paillier as slow
from tests.support.crypto import seeded
from tests.support.paillier import CONTEXT, dealt, opened, partials, primes, private_key

FEW = settings(max_examples=15, deadline=None)
P, Q = map(int, primes(512))
N = P * Q
PLAINTEXTS = st.lists(
    st.one_of(st.integers(0, N - 1), st.sampled_from([0, 1, N - 1])), min_size=1, max_size=4
)


@given(
    st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**130)), max_size=40),
    st.integers(2, 2**60),
)
@settings(deadline=None)
def test_products_of_powers(pairs, modulus):
    bases, exponents = [mpz(base) for base, _ in pairs], [power for _, power in pairs]
    expected = 1
    for base, power in pairs:
        expected = expected * pow(base, power, modulus) % modulus
    assert product_of_powers(bases, exponents, mpz(modulus)) % modulus == expected


@given(st.integers(1, 2**70), st.integers())
@settings(deadline=None)
def test_uniform_integers_are_those_of_the_reference(bound, seed):
    drawn = uniform(seeded(seed), mpz(bound))
    assert 0 <= drawn < bound
    assert drawn == slow.uniform(seeded(seed), bound)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20), st.integers(1, 16), st.data())
@FEW
def test_encryption_is_that_of_the_reference(words, window, data):
    key = dealt().key
    seed, exponent_bits = data.draw(st.integers()), data.draw(st.integers(1, 64))
    blinder = Blinder(key.modulus, exponent_bits, window)
    plaintexts = slow.pack(words, 7)
    ciphertexts = [
        ciphertext
        for part in key.encrypt_words(np.array(words, np.uint64), blinder, seeded(seed))
        for ciphertext in key.modulus.parse(part.run)
    ]
    drawn = seeded(seed)(2 * blinder.digits * len(plaintexts))
    size = 2 * blinder.digits
    for index, (plaintext, ciphertext) in enumerate(zip(plaintexts, ciphertexts, strict=True)):
        piece = drawn[size * index : size * (index + 1)]
        power = slow.exponent(lambda _, piece=piece: piece, blinder.digits, window)
        assert ciphertext == slow.encrypt(N, plaintext, power)
        assert slow.decrypt(P, Q, int(ciphertext)) == plaintext


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20),
    st.integers(1, 16),
    st.binary(min_size=32, max_size=32),
    st.data(),
)
@FEW
def test_plaintext_proofs_are_those_of_the_reference(words, window, binding, data):
    key, seed = dealt().key, data.draw(st.integers())
    blinder = Blinder(key.modulus, key.exponent_bits, window)
    given = np.array(words, np.uint64)
    parts = list(key.encrypt_words(given, blinder, seeded(seed)))
    run, proof = b"".join(part.run for part in parts), [*key.proven(given, parts, binding)][-1]
    ciphertexts = [int(c) for c in key.modulus.parse(run)]
    exponents = [int(a) for part in parts for a in part.exponents]
    written, plaintexts = key.serialise(), slow.pack(words, 7)
    for plaintext, exponent, ciphertext in zip(plaintexts, exponents, ciphertexts, strict=True):
        assert ciphertext == slow.encrypt(N, plaintext, exponent)
    assert slow.plaintext_proof_holds(N, written, ciphertexts, binding, proof)
    theirs = slow.plaintext_proof(
        N, written, ciphertexts, plaintexts, exponents, binding, seeded(seed)
    )
    assert [*key.proven(given, parts, binding, seeded(seed))][-1] == theirs
    key.check_input([run], theirs, binding)
    changed = bytearray(theirs)
    changed[data.draw(st.integers(0, len(theirs) - 1))] ^= data.draw(st.integers(1, 255))
    assert not slow.plaintext_proof_holds(N, written, ciphertexts, binding, bytes(changed))
    with pytest.raises(IntegrityError, match="PLAINTEXT_PROOF_REJECTED"):
        key.check_input([run], bytes(changed), binding)


def test_long_inputs_are_those_of_the_reference():
    """More than the challenges that are derived at once."""
    key = dealt().key
    words = np.arange(520 * 7, dtype=np.uint64)
    *runs, proof = key.proven(words, key.encrypt_words(words, key.blinder(520)), CONTEXT)
    assert len(runs) == 3
    key.check_input(runs, proof, CONTEXT)
    ciphertexts = [int(c) for run in runs for c in key.modulus.parse(run)]
    assert slow.plaintext_proof_holds(N, key.serialise(), ciphertexts, CONTEXT, proof)


@given(st.integers(2, 6), st.data())
@FEW
def test_any_threshold_of_trustees_opens(holders, data):
    threshold = data.draw(st.integers(holders // 2 + 1, holders))
    trust = dealt(512, holders, threshold)
    plaintexts = data.draw(PLAINTEXTS)
    total = trust.key.encrypt_integers(plaintexts)
    chosen = data.draw(st.permutations(range(1, holders + 1)))
    count = data.draw(st.integers(threshold, holders))
    assert opened(trust, total, chosen[:count]) == plaintexts
    powers = {
        holder: slow.number(partials(trust, total, [holder])[holder][:128])
        for holder in chosen[:threshold]
    }
    assert slow.combine(N, holders, powers) == plaintexts[0]


@given(PLAINTEXTS, st.integers(1, 3), st.binary(min_size=32, max_size=32), st.integers())
@FEW
def test_partials_are_those_of_the_reference(plaintexts, holder, context, seed):
    trust = dealt()
    key, share = trust.key, trust.shares[holder - 1]
    total = key.encrypt_integers(plaintexts)
    ciphertexts = [int(c) for c in key.modulus.parse(total)]
    secret = slow.number(share.secret.expose())
    ours = share.partial(key, total, context, seeded(seed))
    theirs = slow.partial(N, 3, key.serialise(), holder, secret, ciphertexts, context, seeded(seed))
    assert ours == theirs
    assert slow.proof_holds(N, key.serialise(), holder, ciphertexts, context, ours)
    key.verify_partial(total, holder, theirs, context)


@given(PLAINTEXTS, st.data())
@FEW
def test_sums_and_scalar_products(plaintexts, data):
    trust = dealt()
    key = trust.key
    others = data.draw(st.lists(st.integers(0, N - 1), min_size=4, max_size=4))[: len(plaintexts)]
    first, second = key.encrypt_integers(plaintexts), key.encrypt_integers(others)
    expected = [(a + b) % N for a, b in zip(plaintexts, others, strict=True)]
    assert opened(trust, key.add(first, second), (1, 3)) == expected
    weights = data.draw(st.lists(st.integers(0, 2**70), min_size=4, max_size=4))[: len(plaintexts)]
    expected = sum(w * m for w, m in zip(weights, plaintexts, strict=True)) % N
    assert opened(trust, key.scalar_product(first, weights), (2, 3)) == [expected]


@given(layouts(), st.data())
@FEW
def test_sums_of_vectors_are_those_without_encryption(drawn, data):
    sections, cohort = drawn
    try:
        layout: VectorLayout = fast_layout(sections, cohort)
    except InvalidArgumentError:
        return  # too wide for a word: no mode takes it
    trust = dealt()
    contributors = data.draw(st.integers(1, min(cohort, 3)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    total, plain = b"", np.zeros(layout.words, np.uint64)
    for index in range(contributors):
        values = {
            name: rng.integers(0, limit, length, endpoint=True)
            if kind == "count"
            else rng.uniform(-2 * limit, 2 * limit, length)
            for kind, name, length, limit, *_ in sections
        }
        run = b"".join(trust.key.encrypt(layout, values, rounding_generator(seeded(index))))
        total = trust.key.add(total, run) if total else run
        plain += layout.encode(values, rounding_generator(seeded(index)))
    pair = data.draw(st.sampled_from([(1, 2), (1, 3), (2, 3)]))
    found = trust.key.combine(layout, contributors, total, partials(trust, total, pair), CONTEXT)
    for name, sums in layout.decode(plain, contributors).items():
        assert found[name].tolist() == sums.tolist()


def mutations(data, count, seed):
    """Yields damaged copies: bits flipped, bytes set, cut, repeated, moved, extreme numbers."""
    rng = random.Random(seed)
    for index in range(count):
        damaged = bytearray(data)
        at = rng.randrange(len(damaged))
        match index % 7:
            case 0:
                damaged[at] ^= 1 << rng.randrange(8)
            case 1:
                damaged[at : at + rng.randrange(1, 40)] = b""
            case 2:
                damaged[at:at] = rng.randbytes(rng.randrange(1, 40))
            case 3:
                length = rng.randrange(1, len(damaged) - at + 1)
                damaged[at : at + length] = rng.choice([b"\0", b"\xff"]) * length
            case 4:
                length = min(rng.randrange(1, 130), len(damaged) - at)
                damaged[at : at + length] = rng.randbytes(length)
            case 5:
                start = rng.randrange(len(damaged))
                piece = damaged[start : start + 64]
                damaged[at : at + len(piece)] = piece
            case 6:
                damaged = damaged[at:] + damaged[:at]
        if bytes(damaged) != data:
            yield bytes(damaged)


def outcome(act):
    """Returns what an action returns, or the error with which it refuses."""
    try:
        return act()
    except IntegrityError as error:
        return error


def test_damaged_ciphertexts_are_refused_or_are_other_ciphertexts():
    """Paillier is malleable: what is in range is a ciphertext. Digest and proof tell the change."""
    trust = dealt()
    modulus = trust.key.modulus
    run = trust.key.encrypt_integers([1, 2, 3])
    accepted = refused = 0
    for damaged in mutations(run, 1400, "ciphertexts"):
        count = outcome(lambda damaged=damaged: trust.key.check(damaged))
        if isinstance(count, IntegrityError):
            assert count.code == "CIPHERTEXT_MALFORMED"
            refused += 1
            continue
        accepted += 1
        assert len(damaged) == count * modulus.ciphertext_bytes
        for start in range(0, len(damaged), 128):
            value = slow.number(damaged[start : start + 128])
            assert 0 < value < N * N
            assert value % P
            assert value % Q
        assert hashlib.sha256(damaged).digest() != hashlib.sha256(run).digest()
    assert refused > 500
    assert accepted > 100


@pytest.mark.parametrize(
    "value", [0, N * N, N * N + 1, 2**1024 - 1, N, P, Q * 17, N * (N - 1)], ids=lambda v: str(v)[:8]
)
def test_what_is_no_unit_is_no_ciphertext(value):
    key = dealt().key
    good = key.encrypt_integers([1, 2])
    for run in (slow.octets(value, 128), good + slow.octets(value, 128)):
        with pytest.raises(IntegrityError) as caught:
            key.check(run)
        assert caught.value.code == "CIPHERTEXT_MALFORMED"
        with pytest.raises(IntegrityError):
            dealt().shares[0].partial(key, run, CONTEXT)


def test_damaged_keys_are_refused_or_are_other_keys():
    good = dealt().key
    written = good.serialise()
    refused = 0
    for damaged in mutations(written, 1400, "keys"):
        key = outcome(lambda damaged=damaged: PaillierKey(*parse_key(damaged, [512])))
        if isinstance(key, IntegrityError):
            assert key.code == "KEY_MALFORMED"
            refused += 1
            continue
        assert key.serialise() == damaged
        assert key.digest() != good.digest()
        assert key.modulus.n % 2 == 1
        assert key.modulus.bits == 512
    assert refused > 700


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("prime", {"n": 2**511 + 111}),
        ("even", {"n": N - 1}),
        ("square", {"n": P * P}),
        ("cube", {"n": (2**170 + 141) ** 3}),
        ("a small factor", {"n": 65521 * ((2**511 // 65521) | 1)}),
        ("short", {"n": N >> 1 | 1}),
        ("no holder", {"holders": 0}),
        ("threshold 1", {"threshold": 1}),
        ("threshold above holders", {"threshold": 4}),
        ("half of the holders", {"holders": 4}),
        ("exponents of no bits", {"exponent_bits": 0}),
        ("exponents of 64 bits", {"exponent_bits": 64}),
        ("verification key 0", {"verification": 0}),
        ("verification key 1", {"verification": 1}),
        ("verification key n", {"verification": N}),
        ("verification key n²", {"verification": N * N}),
        ("verification key twice", {"verification": None}),
    ],
)
def test_hostile_keys(name, change):
    key = dealt().key
    fields = {"holders": 3, "threshold": 2, "exponent_bits": 256} | change
    verification = [*key.verification, key.verification_base]
    if "verification" in change:
        verification[0] = verification[1] if name.endswith("twice") else mpz(change["verification"])
    n = fields.get("n", N)
    data = write_key(
        key.modulus,
        fields["holders"],
        fields["threshold"],
        fields["exponent_bits"],
        verification[: fields["holders"]],
    )
    data = data[:14] + slow.octets(n, 64) + data[14 + 64 :]
    with pytest.raises(IntegrityError) as caught:
        parse_key(data, [512])
    assert caught.value.code == "KEY_MALFORMED"


def test_sizes_for_tests_are_refused_in_public():
    with pytest.raises(IntegrityError):
        parse_key(dealt().key.serialise())
    with pytest.raises(IntegrityError):
        PaillierShare.read(dealt().shares[0].serialise())
    with pytest.raises(IntegrityError):
        Modulus.read(N)
    assert Modulus.read(int(private_key().modulus.n)) == private_key().modulus


def test_damaged_shares_are_refused_or_fail_their_check():
    trust = dealt()
    for damaged in mutations(trust.shares[0].serialise().expose(), 300, "shares"):
        share = outcome(lambda damaged=damaged: PaillierShare.read(SecretBytes(damaged), [128]))
        if isinstance(share, IntegrityError):
            assert share.code == "KEY_MALFORMED"
            continue
        with pytest.raises(FinSecureError, match=r"\[(KEY_MISMATCH|SHARE_INVALID)\]"):
            share.check(trust.key)


def test_damaged_partials_are_always_named():
    trust = dealt()
    total = trust.key.encrypt_integers([1, 2])
    good = partials(trust, total, (1,))[1]
    tried = 0
    for damaged in mutations(good, 1400, "partials"):
        with pytest.raises(ProtocolViolationError) as caught:
            trust.key.verify_partial(total, 1, damaged, CONTEXT)
        assert (caught.value.code, caught.value.culprit) == ("PARTIAL_INVALID", "1")
        tried += 1
    assert tried > 1000


def test_a_partial_is_for_one_holder_one_sum_and_one_request():
    trust = dealt()
    totals = [trust.key.encrypt_integers([value]) for value in (1, 1)]
    contexts = [CONTEXT, bytes(32)]
    given = trust.shares[0].partial(trust.key, totals[0], contexts[0])
    for total, context, holder in product(totals, contexts, (1, 2)):
        if (total, context, holder) == (totals[0], contexts[0], 1):
            trust.key.verify_partial(total, holder, given, context)
            continue
        with pytest.raises(ProtocolViolationError):
            trust.key.verify_partial(total, holder, given, context)
