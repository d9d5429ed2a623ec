"""Paillier with trustees: its vectors, what opens and what does not, and what stays hidden."""

import copy
from itertools import combinations

import numpy as np
import pytest
from finsecure_crypto.encoding import CountSection, RealSection, VectorLayout, rounding_generator
from finsecure_crypto.errors import (
    IntegrityError,
    InvalidArgumentError,
    ProtocolViolationError,
    StateError,
)
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.paillier import PaillierKey, dealer, packing, proof
from finsecure_crypto.homomorphic.paillier.blinding import Blinder, residue_base, window_for
from finsecure_crypto.homomorphic.paillier.key_format import parse_key
from finsecure_crypto.homomorphic.paillier.primes import safe_prime
from finsecure_crypto.homomorphic.paillier.private_key import PrivateKey
from finsecure_crypto.homomorphic.paillier.share import PaillierShare, make_share
from finsecure_crypto.homomorphic.registry import load_key, load_share
from finsecure_crypto.homomorphic.scheme import Shape
from finsecure_crypto.secret import SecretBytes
from gmpy2 import is_prime, jacobi, mpz, powmod

from tests.support.crypto import seeded, vectors
from tests.support.paillier import CONTEXT, dealt, opened, partials, primes, private_key
from tests.vectors.paillier.generate import content

VECTORS = vectors("paillier")
PAIRS = list(combinations((1, 2, 3), 2))


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: case["name"])
def test_vectors(case):
    sizes = [case["bits"]]
    key = PaillierKey(*parse_key(bytes.fromhex(case["key"]), sizes))
    assert key.serialise().hex() == case["key"]
    assert key.digest().hex() == case["key_digest"]
    again = dealer._deal(
        *primes(case["bits"]),
        case["exponent_bits"],
        case["holders"],
        case["threshold"],
        seeded(case["name"]),
    )
    assert again.key == key
    assert [share.serialise().expose().hex() for share in again.shares] == case["shares"]

    blinder = Blinder(key.modulus, key.exponent_bits, case["window"])
    total = None
    for index, (words, run) in enumerate(zip(case["words"], case["inputs"], strict=True)):
        randomness = seeded(f"{case['name']}, client {index}")
        given, binding = np.array(words, np.uint64), bytes.fromhex(case["bindings"][index])
        encrypted = list(key.encrypt_words(given, blinder, randomness))
        prover = seeded(f"{case['name']}, proof {index}")
        *runs, proven = key.proven(given, encrypted, binding, prover)
        assert b"".join(runs).hex() == run
        assert proven.hex() == case["proofs"][index]
        key.check_input(runs, proven, binding)
        total = key.add(total, bytes.fromhex(run)) if total else bytes.fromhex(run)
    assert total.hex() == case["total"]
    for refused in case["refused_proofs"]:
        proven, binding = bytes.fromhex(refused["proof"]), bytes.fromhex(refused["binding"])
        with pytest.raises(IntegrityError, match="PLAINTEXT_PROOF_REJECTED"):
            key.check_input([bytes.fromhex(case["inputs"][0])], proven, binding)

    given = {}
    for holder, expected in case["partials"].items():
        data = SecretBytes(bytes.fromhex(case["shares"][int(holder) - 1]))
        share = PaillierShare.read(data, [case["bits"] // 4])
        share.check(key)
        randomness = seeded(f"{case['name']} {holder}")
        partial = share.partial(key, total, bytes.fromhex(case["context"]), randomness)
        assert partial.hex() == expected
        given[int(holder)] = partial
    plaintexts = key.open_integers(total, given, bytes.fromhex(case["context"]))
    assert plaintexts == case["plaintexts"]


def test_the_vectors_are_those_of_the_reference():
    assert content() == VECTORS


LAYOUT = VectorLayout(
    (CountSection("weight", 3, 2**40), RealSection("update", 40, 0.5, 16)), cohort=10
)


def clients(count, seed=1):
    rng = np.random.default_rng(seed)
    return [
        {
            "weight": rng.integers(0, 2**40, 3, endpoint=True),
            "update": rng.uniform(-0.5, 0.5, 40),
        }
        for _ in range(count)
    ]


def summed(key, inputs, layout=LAYOUT):
    """Encrypts with noise that the plain sum repeats, and adds."""
    total, plain = b"", np.zeros(layout.words, np.uint64)
    for index, values in enumerate(inputs):
        encrypted = b"".join(
            key.encrypt(layout, values, rounding_generator(seeded(index)), seeded(-index))
        )
        shape = key.shape(layout)
        assert len(encrypted) == shape.count * shape.size_bytes == shape.total_bytes
        assert key.check(encrypted) == shape.count
        total = key.add(total, encrypted) if total else encrypted
        plain += layout.encode(values, rounding_generator(seeded(index)))
    return total, layout.decode(plain, len(inputs))


@pytest.mark.parametrize("pair", PAIRS)
def test_each_pair_of_trustees_opens_the_exact_sum(pair):
    trust = dealt()
    total, expected = summed(trust.key, clients(10))
    found = trust.key.combine(LAYOUT, 10, total, partials(trust, total, pair), CONTEXT)
    assert found.keys() == expected.keys()
    for name, sums in expected.items():
        assert found[name].dtype == sums.dtype
        assert found[name].tolist() == sums.tolist()


@pytest.mark.parametrize("bits", [2048, 3072])
def test_real_sizes_open_through_the_registry(bits):
    trust = dealt(bits)
    key = load_key(Mode.PAILLIER, trust.key.serialise())
    assert key == trust.key
    assert key.mode is Mode.PAILLIER
    assert (key.holders, key.threshold) == (3, 2)
    words = 31 if bits == 2048 else 47
    layout = VectorLayout((RealSection("update", 2 * words + 1, 1.0, 16),), 10_000)
    assert key.shape(layout) == Shape(2, bits // 4, key.proof_bytes)
    assert key.error_bound(layout) == 0.0
    values = {"update": np.linspace(-1, 1, 2 * words + 1)}
    total, expected = summed(key, [values] * 2, layout)
    given = {}
    for share in (trust.shares[0], trust.shares[2]):
        loaded = load_share(Mode.PAILLIER, share.serialise())
        assert (loaded.mode, loaded.holder) == (Mode.PAILLIER, share.holder)
        given[share.holder] = loaded.partial(key, total, CONTEXT)
        key.verify_partial(total, share.holder, given[share.holder], CONTEXT)
    found = key.combine(layout, 2, total, given, CONTEXT)
    assert found["update"].tolist() == expected["update"].tolist()


@pytest.mark.parametrize(("holders", "threshold"), [(2, 2), (5, 3), (4, 4), (16, 9)])
def test_other_thresholds(holders, threshold):
    trust = dealt(512, holders, threshold)
    for share in trust.shares:
        share.check(trust.key)
    total = trust.key.encrypt_integers([5, 2**400])
    chosen = range(holders, holders - threshold, -1)
    assert opened(trust, total, chosen) == [5, 2**400]
    with pytest.raises(StateError) as caught:
        opened(trust, total, range(1, threshold))
    assert caught.value.code == "TOO_FEW_PARTIALS"


def test_one_share_and_all_that_is_public_do_not_open():
    """What the aggregator could try with one trustee: no combination of one partial opens."""
    trust = dealt()
    key, n, square = trust.key, trust.key.modulus.n, trust.key.modulus.square
    total = key.encrypt_integers([123456])
    alone = partials(trust, total, [1])
    with pytest.raises(StateError) as caught:
        key.open_integers(total, alone, CONTEXT)
    assert caught.value.code == "TOO_FEW_PARTIALS"
    # A partial under another number is not taken for a second one.
    with pytest.raises(ProtocolViolationError) as caught:
        key.open_integers(total, {1: alone[1], 2: alone[1]}, CONTEXT)
    assert caught.value.culprit == "2"
    partial = mpz.from_bytes(alone[1][: key.modulus.ciphertext_bytes], "big")
    for exponent in range(-50, 51):
        assert (powmod(partial, exponent, square) - 1) % n != 0 or exponent == 0


def test_a_share_alone_is_uniform():
    """Given the share of holder 1, each secret is as likely: a polynomial fits each of them."""
    p, q = primes(512)
    n, order = p * q, (p - 1) // 2 * ((q - 1) // 2)
    first = mpz.from_bytes(dealt().shares[0].secret.expose(), "big")
    for candidate in (mpz(0), mpz(12345), n * order - 1):
        slope = (first - candidate) % (n * order)
        assert (candidate + slope) % (n * order) == first
    drawn = [
        mpz.from_bytes(dealer._deal(p, q, 256, 3, 2, seeded(seed)).shares[0].secret.expose(), "big")
        for seed in range(200)
    ]
    # The mean of 200 uniform values is within five standard errors of the middle.
    mean = float(sum(drawn) / len(drawn) / (n * order))
    assert abs(mean - 0.5) < 5 / (12 * len(drawn)) ** 0.5


def lies(trust, total, partial):
    """Everything that a lying trustee could send instead, by name."""
    size, square = trust.key.modulus.ciphertext_bytes, trust.key.modulus.square
    first = mpz.from_bytes(partial[:size], "big")

    def replaced(value):
        return value.to_bytes(size, "big") + partial[size:]

    honest = trust.shares[0]
    wrong = make_share(trust.key, 1, mpz.from_bytes(honest.secret.expose(), "big") + 1)
    yield "another share", wrong.partial(trust.key, total, CONTEXT)
    yield "another request", honest.partial(trust.key, total, bytes(32))
    yield "another total", honest.partial(trust.key, trust.key.add(total, total), CONTEXT)
    yield "the share of another", trust.shares[1].partial(trust.key, total, CONTEXT)
    yield "one element scaled", replaced(first * (1 + trust.key.modulus.n) % square)
    yield "one element squared", replaced(first * first % square)
    yield "zero", replaced(mpz(0))
    yield "a factor of n", replaced(primes(512)[0])
    yield "beyond n²", replaced(first + square) if first + square < 2 ** (8 * size) else b""
    yield "swapped elements", partial[size : 2 * size] + partial[:size] + partial[2 * size :]
    yield "empty", b""
    yield "short", partial[:-1]
    yield "long", partial + b"\0"
    yield "no proof", partial[: len(total)] + bytes(len(partial) - len(total))
    yield (
        "largest response",
        partial[: len(total) + 32] + b"\xff" * (len(partial) - len(total) - 32),
    )


def test_a_lying_trustee_is_named_and_replaced():
    trust = dealt()
    total = trust.key.encrypt_integers([7, 8, 9])
    good = partials(trust, total, (1, 2, 3))
    for name, lie in lies(trust, total, good[1]):
        with pytest.raises(ProtocolViolationError) as caught:
            trust.key.verify_partial(total, 1, lie, CONTEXT)
        assert (caught.value.code, caught.value.culprit) == ("PARTIAL_INVALID", "1"), name
        with pytest.raises(ProtocolViolationError) as caught:
            trust.key.open_integers(total, {**good, 1: lie}, CONTEXT)
        assert caught.value.culprit == "1", name
    assert trust.key.open_integers(total, {2: good[2], 3: good[3]}, CONTEXT) == [7, 8, 9]


def test_a_root_of_one_that_the_proof_does_not_see_changes_nothing():
    """The proof is about squares, and so is the opening: a liar gains nothing with -p for p."""
    trust = dealt()
    key, share = trust.key, trust.shares[0]
    total = key.encrypt_integers([42])
    ciphertexts = key.modulus.parse(total)
    exponent = key.delta * mpz.from_bytes(share.secret.expose(), "big")
    negated = [
        -powmod(c, 2 * exponent, key.modulus.square) % key.modulus.square for c in ciphertexts
    ]
    written = key.modulus.join(negated)
    statement = key.statement(1, CONTEXT, (total, ciphertexts), (written, negated))
    lie = written + proof.prove(statement, exponent, seeded(1))
    given = {1: lie, **partials(trust, total, (2,))}
    assert key.open_integers(total, given, CONTEXT) == [42]


@pytest.mark.parametrize("holder", [0, -1, 4, 10**6])
def test_partials_of_no_holder(holder):
    trust = dealt()
    total = trust.key.encrypt_integers([1])
    good = partials(trust, total, (1,))[1]
    with pytest.raises(ProtocolViolationError) as caught:
        trust.key.verify_partial(total, holder, good, CONTEXT)
    assert caught.value.culprit == str(holder)


def test_a_context_is_a_digest():
    trust = dealt()
    total = trust.key.encrypt_integers([1])
    for act in (
        lambda: trust.shares[0].partial(trust.key, total, b"short"),
        lambda: trust.key.verify_partial(total, 1, b"", b"short"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            act()
        assert caught.value.code == "CONTEXT_LENGTH"


def test_a_share_of_another_key_is_refused():
    trust, other = dealt(), dealt(512, 5, 3)
    total = trust.key.encrypt_integers([1])
    for act in (
        lambda: other.shares[0].partial(trust.key, total, CONTEXT),
        lambda: other.shares[0].check(trust.key),
        lambda: trust.shares[0].partial(object(), total, CONTEXT),
        lambda: PaillierShare(1, trust.key.digest(), SecretBytes(b"short")).check(trust.key),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            act()
        assert caught.value.code == "KEY_MISMATCH"


def test_a_dealer_that_hands_out_a_wrong_share_is_found_out():
    trust = dealt()
    for secret in (mpz(0), mpz(5)):
        with pytest.raises(IntegrityError) as caught:
            make_share(trust.key, 2, secret).check(trust.key)
        assert caught.value.code == "SHARE_INVALID"


def test_a_key_whose_dealer_was_wrong_opens_nothing_wrong():
    """Verification keys of shares that lie on no common line: proofs hold, the opening fails."""
    trust = dealt()
    key = trust.key
    exponent = mpz(98765)
    forged = powmod(key.verification_base, key.delta * exponent, key.modulus.square)
    wrong = PaillierKey(key.modulus, 3, 2, key.exponent_bits, (forged, *key.verification[1:]))
    shares = [
        make_share(wrong, 1, exponent),
        make_share(wrong, 2, mpz.from_bytes(trust.shares[1].secret.expose(), "big")),
    ]
    total = wrong.encrypt_integers([1])
    given = {share.holder: share.partial(wrong, total, CONTEXT) for share in shares}
    with pytest.raises(IntegrityError) as caught:
        wrong.open_integers(total, given, CONTEXT)
    assert caught.value.code == "PARTIALS_DISAGREE"


def test_sums_that_no_honest_inputs_have():
    trust = dealt()
    key, width = trust.key, trust.key.modulus.words
    count = packing.ciphertexts_for(key.modulus, LAYOUT.words)
    for plaintexts in (
        [2 ** (64 * width)] + [0] * (count - 1),  # more than the words of a plaintext
        [0] * (count - 1) + [2 ** (64 * width - 1)],  # behind the last word of the layout
        [2**63] + [0] * (count - 1),  # above what a lane can reach
    ):
        total = key.encrypt_integers(plaintexts)
        with pytest.raises(IntegrityError) as caught:
            key.combine(LAYOUT, 3, total, partials(trust, total, (1, 2)), CONTEXT)
        assert caught.value.code == "SUM_OUT_OF_RANGE"
    total = key.encrypt_integers([0])
    with pytest.raises(InvalidArgumentError) as caught:
        key.combine(LAYOUT, 3, total, partials(trust, total, (1, 2)), CONTEXT)
    assert caught.value.code == "RUN_LENGTH"


def test_audited_sums_of_integer_vectors():
    """Non-negative integers of a given width, 60 members: a layout of one section."""
    trust = dealt()
    layout = VectorLayout((CountSection("exposure", 20, 2**50 - 1),), cohort=100)
    rng = np.random.default_rng(5)
    inputs = [rng.integers(0, 2**50, 20) for _ in range(60)]
    total = b""
    for values in inputs:
        run = b"".join(trust.key.encrypt(layout, {"exposure": values}, rng))
        total = trust.key.add(total, run) if total else run
    found = trust.key.combine(layout, 60, total, partials(trust, total, (2, 3)), CONTEXT)
    assert found["exposure"].tolist() == sum(inputs).tolist()


def test_scalar_products():
    trust = dealt()
    key, values, weights = trust.key, [3, 0, 2**60, 7], [5, 9, 0, 2**64]
    run = key.encrypt_integers(values)
    product = key.scalar_product(run, weights)
    assert opened(trust, product, (1, 3)) == [sum(map(int.__mul__, values, weights))]
    assert key.scalar_product(run, weights) != product  # blinded anew
    assert opened(trust, key.scalar_product(run, [0] * 4), (1, 3)) == [0]
    for bad in ([1], [1, 2, 3, -1]):
        with pytest.raises(InvalidArgumentError) as caught:
            key.scalar_product(run, bad)
        assert caught.value.code == "WEIGHTS_INVALID"


def test_plaintexts_have_a_range():
    key = dealt().key
    for bad in (-1, int(key.modulus.n)):
        for encrypt in (key.encrypt_integers, lambda v: key.modulus.encrypt(v, seeded(1))):
            with pytest.raises(InvalidArgumentError) as caught:
                encrypt([bad])
            assert caught.value.code == "PLAINTEXT_RANGE"


def test_runs_of_different_lengths_are_not_added():
    key = dealt().key
    run = key.encrypt_integers([1, 2])
    for other in (run[:-1], run[:-128], b""):
        with pytest.raises(InvalidArgumentError) as caught:
            key.add(run, other)
        assert caught.value.code == "RUN_LENGTH"


@pytest.mark.parametrize("bits", [2048, 3072])
def test_a_key_in_one_hand(bits):
    private = private_key(bits)
    modulus = private.modulus
    run = modulus.encrypt([0, 1, 2**500, int(modulus.n) - 1], seeded("one hand"))
    assert private.decrypt(run) == [0, 1, 2**500, int(modulus.n) - 1]
    assert private.decrypt(modulus.add(run, run))[:3] == [0, 2, 2**501]
    # What trustees open, the whole key opens too: one scheme.
    fast = dealt(bits).key.encrypt_integers([99])
    assert private.decrypt(fast) == [99]
    p, q = private.expose()
    assert {p, q} == set(map(int, primes(bits)))


@pytest.mark.parametrize("bad", [(7, 11), (15, 21), (0, 0)], ids=["short", "composite", "nothing"])
def test_primes_of_no_key(bad):
    with pytest.raises(IntegrityError) as caught:
        PrivateKey.from_primes(*bad)
    assert caught.value.code == "KEY_MALFORMED"
    p, _ = primes(2048)
    with pytest.raises(IntegrityError):
        PrivateKey.from_primes(p, p)
    with pytest.raises(IntegrityError):
        PrivateKey.from_primes(p, primes(3072)[0])


@pytest.mark.parametrize("bits", [0, 512, 1024, 2047, 4096])
def test_no_public_interface_makes_other_sizes(bits):
    for make in (dealer.deal, PrivateKey.generate):
        with pytest.raises(InvalidArgumentError) as caught:
            make(bits)
        assert caught.value.code == "KEY_SIZE"


@pytest.mark.parametrize(("holders", "threshold"), [(3, 1), (3, 4), (1, 1), (17, 9), (0, 0)])
def test_thresholds_that_share_nothing(holders, threshold):
    with pytest.raises(InvalidArgumentError) as caught:
        dealer._deal(*primes(512), 256, holders, threshold, seeded(1))
    assert caught.value.code == "SHARE_THRESHOLD"


@pytest.mark.parametrize(("holders", "threshold"), [(4, 2), (5, 2), (6, 3), (16, 8)])
def test_no_two_sets_of_trustees_open_without_one_in_common(holders, threshold):
    with pytest.raises(InvalidArgumentError) as caught:
        dealer._deal(*primes(512), 256, holders, threshold, seeded(1))
    assert caught.value.code == "SHARE_THRESHOLD"


@pytest.mark.slow
def test_a_dealer_makes_keys_that_everybody_reads():
    trust = dealer.deal(2048, randomness=seeded("deal"), conservative=True)
    assert load_key(Mode.PAILLIER, trust.key.serialise()) == trust.key
    assert (trust.key.modulus.bits, trust.key.exponent_bits) == (2048, 1024)
    # The primes are drawn first, and in the same way as for a key in one hand.
    p, q = PrivateKey.generate(2048, seeded("deal")).expose()
    assert p * q == trust.key.modulus.n


@pytest.mark.parametrize("bits", [100, 256])
def test_safe_primes(bits):
    found = {int(safe_prime(bits, seeded(seed))) for seed in range(3)}
    assert len(found) == 3
    for prime in found:
        assert is_prime(prime)
        assert is_prime((prime - 1) // 2)
        assert prime >> (bits - 2) == 3
    assert primes(512)[0] == safe_prime(256, seeded("test only 512 0"))


def test_blinding_is_spread_over_the_residues():
    """Exponents use all digits, residues do not repeat, and both parts of Z_n look uniform."""
    modulus = dealt().key.modulus
    blinder = Blinder(modulus, 256, 8)
    residues = list(blinder.residues(2000, seeded("spread")))
    assert len(set(residues)) == 2000
    p, q = primes(512)
    for prime in (p, q):
        halves = sum(int(r % prime) * 2 > prime for r in residues)
        assert abs(halves - 1000) < 5 * 500**0.5
        # h is no square modulo either prime, so residues of odd exponents are none.
        squares = sum(jacobi(r % prime, prime) == 1 for r in residues)
        assert abs(squares - 1000) < 5 * 500**0.5
    assert all(jacobi(r, modulus.n) == 1 for r in residues)
    order = (p - 1) // 2 * ((q - 1) // 2)
    assert powmod(residue_base(modulus), 2 * order, modulus.square) == 1  # n-th residues all


def test_the_same_values_never_give_the_same_ciphertext():
    key = dealt().key
    values = clients(1)[0]
    first, second = (b"".join(key.encrypt(LAYOUT, values, rounding_generator())) for _ in range(2))
    size = key.modulus.ciphertext_bytes
    pieces = [run[i : i + size] for run in (first, second) for i in range(0, len(run), size)]
    assert len(set(pieces)) == len(pieces)


@pytest.mark.parametrize("window", [1, 3, 8, 12, 16])
def test_every_window_makes_the_same_kind_of_ciphertext(window):
    trust = dealt()
    words = np.arange(20, dtype=np.uint64)
    blinder = Blinder(trust.key.modulus, 64, window)
    run = b"".join(part.run for part in trust.key.encrypt_words(words, blinder))
    plaintexts = opened(trust, run, (1, 2))
    assert [m >> (64 * i) & (2**64 - 1) for m in plaintexts for i in range(7)][:20] == list(
        range(20)
    )


def test_windows_grow_with_the_work():
    windows = [window_for(count) for count in (1, 30, 1000, 10**6)]
    assert windows == sorted(windows)
    assert windows[0] < 4
    assert windows[-1] == 10


def test_nothing_of_the_secret_is_shown_or_in_the_public_key():
    trust = dealt()
    p, q = primes(512)
    share = trust.shares[0]
    secrets = [
        int.from_bytes(share.secret.expose(), "big"),
        int(p),
        int(q),
        int((p - 1) * (q - 1)),
    ]
    private = private_key()
    private.decrypt(private.modulus.encrypt([1], seeded(1)))  # its caches are filled
    secrets += private.expose()
    shown = [repr(x) for x in (share, trust, trust.key, private, share.serialise())]
    for secret in secrets:
        for text in shown:
            assert str(secret) not in text
            assert f"{secret:x}" not in text
    public = trust.key.serialise()
    size = 512 // 8
    for secret in secrets[:3]:
        octets = secret.to_bytes(2 * size, "big").lstrip(b"\0")
        assert octets not in public
    # All else of the key follows from n and the shares: bases from n alone.
    assert len(public) == 14 + size + 3 * 2 * size
    assert repr(copy.deepcopy(share)) == repr(share)
