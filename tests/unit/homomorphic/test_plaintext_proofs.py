"""A contributor has to know what it encrypted: the attacks that this ends, and what a proof shows.

The attacker is a contributor that conspires with the aggregator, so it has seen everybody's inputs,
proofs included, before it makes its own.
"""

import hashlib
from functools import reduce
from itertools import chain

import numpy as np
import pytest
from finsecure_crypto.encoding import CountSection, VectorLayout, rounding_generator
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.homomorphic.decryption import EncryptedContext, RoundSubject, SumSubject
from finsecure_crypto.homomorphic.paillier import plaintext_proof
from finsecure_crypto.homomorphic.paillier.blinding import SHORT_EXPONENT_BITS, residue_base
from finsecure_crypto.homomorphic.paillier.integers import from_bytes, to_bytes
from finsecure_crypto.homomorphic.paillier.modulus import Modulus
from gmpy2 import invert, mpz, powmod

from tests.support.crypto import seeded
from tests.support.paillier import dealt, opened, primes

TRUST = dealt()
KEY = TRUST.key
N, SQUARE, SIZE = KEY.modulus.n, KEY.modulus.square, KEY.modulus.ciphertext_bytes
BANKS = ("bank-a", "bank-b", "bank-c")
LAYOUT = VectorLayout((CountSection("values", 20, 2**40),), 4)
COUNT = KEY.shape(LAYOUT).count
DIGEST = bytes(32)
ROUND = RoundSubject("scoring", 3, 1, DIGEST, DIGEST, DIGEST)


def context(subject=ROUND, key=KEY, federation="lending"):
    name = f"federations/{federation}/encryptionKeys/first"
    return EncryptedContext(federation, subject, name, key.digest(), 2, 4, LAYOUT.digest())


def values(bank):
    return np.arange(20, dtype=np.uint64) + np.uint64(1000 * (BANKS.index(bank) + 1))


def made(bank, key=KEY, bound=None):
    """A bank's ciphertexts and proof."""
    *runs, proof = key.encrypt_input(
        LAYOUT, {"values": values(bank)}, seeded(bank), bound or context().input_binding(bank)
    )
    return b"".join(runs), proof


def refusal(run, proof, bank="bank-c", bound=None, key=KEY):
    with pytest.raises(IntegrityError) as caught:
        key.check_input([run], proof, bound or context().input_binding(bank))
    return caught.value.code


def accepted(run, proof, bank):
    KEY.check_input([run], proof, context().input_binding(bank))


def numbers(run):
    return [from_bytes(run[i : i + SIZE]) for i in range(0, len(run), SIZE)]


def joined(ciphertexts):
    return KEY.modulus.join([c % SQUARE for c in ciphertexts])


def split(proof):
    """Seed, M and A."""
    end = 32 + KEY.modulus.bits // 8
    return proof[:32], from_bytes(proof[32:end]), from_bytes(proof[end:])


def proof_of(seed, plaintext, exponent):
    size = KEY.modulus.bits // 8
    rest = KEY.proof_bytes - 32 - size
    return seed + to_bytes(mpz(plaintext) % N, size) + to_bytes(mpz(exponent), rest)


def own(plaintexts, exponents, ciphertexts, bank="bank-c"):
    """A proof by the protocol, of what its maker claims to know of these ciphertexts."""
    statement = KEY._plaintext_statement(context().input_binding(bank))
    sha256 = hashlib.sha256(joined(ciphertexts)).digest()
    return statement.prove(sha256, plaintexts, exponents, seeded("own"))


def test_honest_inputs_are_taken_in_any_pieces():
    run, proof = made("bank-a")
    binding = context().input_binding("bank-a")
    assert len(run) + len(proof) == KEY.shape(LAYOUT).input_bytes
    assert COUNT > 2
    KEY.check_input([run], proof, binding)
    KEY.check_input((run[i : i + SIZE] for i in range(0, len(run), SIZE)), proof, binding)
    assert KEY.ciphertext_part(len(run) + len(proof)) == len(run)


def cancelling():
    """What leaves bank-a alone in the sum of all: the inverse of bank-b's, blinded anew."""
    fresh = list(KEY.blinder(COUNT).powers(COUNT, seeded("fresh")))
    inverse = [invert(c, SQUARE) for c in numbers(made("bank-b")[0])]
    ciphertexts = [c * power % SQUARE for c, (_, power) in zip(inverse, fresh, strict=True)]
    return ciphertexts, [exponent for exponent, _ in fresh]


def test_who_sees_all_others_can_still_cancel_them_but_not_prove_that_it_knows_what_it_sent():
    ciphertexts, exponents = cancelling()
    run = joined(ciphertexts)
    assert KEY.check(run) == COUNT
    total = reduce(KEY.add, (made("bank-a")[0], made("bank-b")[0], run))
    alone = opened(TRUST, total, (1, 2))
    assert alone == opened(TRUST, made("bank-a")[0], (1, 2))  # what trustees would have opened
    seed, plaintext, exponent = split(made("bank-b")[1])
    for proof in (
        made("bank-b")[1],
        proof_of(seed, -plaintext, exponent),
        own([mpz(0)] * COUNT, exponents, ciphertexts),
        own([mpz(1)] * COUNT, exponents, ciphertexts),
    ):
        assert refusal(run, proof) == "PLAINTEXT_PROOF_REJECTED"


def test_copies_of_anothers_input_are_refused():
    run, proof = made("bank-a")
    accepted(run, proof, "bank-a")
    assert refusal(run, proof) == "PLAINTEXT_PROOF_REJECTED"
    # Blinded anew: the exponents are shifted by known ones, and so is the answer.
    fresh = list(KEY.blinder(COUNT).powers(COUNT, seeded("fresh")))
    copied = [c * power for c, (_, power) in zip(numbers(run), fresh, strict=True)]
    seed, plaintext, exponent = split(proof)
    shift = sum(e * a for e, (a, _) in zip(plaintext_proof._challenges(seed), fresh, strict=False))
    shifted = proof_of(seed, plaintext, exponent + shift)
    for bank in ("bank-a", "bank-c"):
        assert refusal(joined(copied), proof, bank) == "PLAINTEXT_PROOF_REJECTED"
        assert refusal(joined(copied), shifted, bank) == "PLAINTEXT_PROOF_REJECTED"


def test_functions_of_others_inputs_are_refused():
    (first, one), (second, other) = made("bank-a"), made("bank-b")
    seed, *answers = split(one)
    sums = [sum(each) for each in zip(answers, split(other)[1:], strict=True)]
    combined = [a * b for a, b in zip(numbers(first), numbers(second), strict=True)]
    scaled = [c**2 for c in numbers(first)]
    shifted = [c * (1 + N) for c in numbers(first)]  # the plaintext, one more
    count = sum(e for e, _ in zip(plaintext_proof._challenges(seed), shifted, strict=False))
    turned = numbers(first)[::-1]
    mixed = numbers(first)[:1] + numbers(second)[1:]
    plaintext, exponent = answers
    for ciphertexts, answer in (
        (combined, sums),
        (scaled, (2 * plaintext, 2 * exponent)),
        (shifted, (plaintext + count, exponent)),
        (turned, answers),
        (mixed, answers),
        (numbers(first)[:-1], answers),
        (numbers(first) + numbers(second)[:1], answers),
    ):
        for bank in BANKS:
            proof = proof_of(seed, *answer)
            assert refusal(joined(ciphertexts), proof, bank) == "PLAINTEXT_PROOF_REJECTED"


@pytest.mark.parametrize(
    ("bank", "elsewhere"),
    [
        ("bank-c", context()),
        ("bank-a", context(RoundSubject("scoring", 4, 1, DIGEST, DIGEST, DIGEST))),
        ("bank-a", context(RoundSubject("scoring", 3, 2, DIGEST, DIGEST, DIGEST))),
        ("bank-a", context(RoundSubject("scoring", 3, 1, b"n" * 32, DIGEST, DIGEST))),
        ("bank-a", context(RoundSubject("credit", 3, 1, DIGEST, DIGEST, DIGEST))),
        ("bank-a", context(RoundSubject("scoring", 3, 1, DIGEST, b"m" * 32, DIGEST))),
        ("bank-a", context(SumSubject("scoring", DIGEST, DIGEST))),
        ("bank-a", context(federation="cards")),
        ("bank-a", context(key=dealt(512, 5, 3).key)),
    ],
)
def test_a_proof_is_for_one_client_one_attempt_and_one_key(bank, elsewhere):
    run, proof = made("bank-a")
    bound = elsewhere.input_binding(bank)
    assert refusal(run, proof, bound=bound) == "PLAINTEXT_PROOF_REJECTED"
    again = made("bank-a", bound=bound)
    KEY.check_input([again[0]], again[1], bound)


def test_a_proof_under_another_key_of_the_same_modulus_is_refused():
    """Trustees can make several keys of one modulus; ciphertexts of one are those of the other."""
    other = dealt(512, 5, 3).key
    assert other.modulus == KEY.modulus
    run, proof = made("bank-a")
    bound = context().input_binding("bank-a")
    assert refusal(run, proof, bound=bound, key=other) == "PLAINTEXT_PROOF_REJECTED"


def test_each_byte_counts():
    run, proof = made("bank-a")
    for at in range(len(proof)):
        changed = proof[:at] + bytes([proof[at] ^ (1 << at % 8)]) + proof[at + 1 :]
        assert refusal(run, changed, "bank-a") == "PLAINTEXT_PROOF_REJECTED"
    for at in range(len(run)):
        changed = run[:at] + bytes([run[at] ^ (1 << at % 8)]) + run[at + 1 :]
        assert refusal(changed, proof, "bank-a") in (
            "CIPHERTEXT_MALFORMED",
            "PLAINTEXT_PROOF_REJECTED",
        )


def test_answers_have_one_form():
    run, proof = made("bank-a")
    seed, plaintext, exponent = split(proof)
    size = KEY.modulus.bits // 8
    rest = KEY.proof_bytes - 32 - size
    p, q = primes(512)
    order = (p - 1) * (q - 1)  # of the blinding, which nobody knows
    assert powmod(residue_base(KEY.modulus), order, SQUARE) == 1
    beyond = exponent + (2 ** (8 * rest) - exponent - 1) // order * order  # the same power
    assert beyond > 2 * exponent
    wrong = [seed + to_bytes(plaintext, size) + to_bytes(beyond, rest)]
    if plaintext + N < 2 ** (8 * size):
        wrong.append(seed + to_bytes(plaintext + N, size) + to_bytes(exponent, rest))
    for changed in wrong:
        assert refusal(run, changed, "bank-a") == "PLAINTEXT_PROOF_REJECTED"
    assert refusal(run, seed + b"\xff" * (size + rest), "bank-a") == "PLAINTEXT_PROOF_REJECTED"
    assert refusal(run, bytes(len(proof)), "bank-a") == "PLAINTEXT_PROOF_REJECTED"


@pytest.mark.parametrize("cut", [0, 1, 32, -1])
def test_an_input_without_a_whole_proof_is_refused(cut):
    run, proof = made("bank-a")
    assert refusal(run, proof[:cut], "bank-a") == "PLAINTEXT_PROOF_MISSING"
    assert refusal(run, proof + b"\0", "bank-a") == "PLAINTEXT_PROOF_MISSING"


@pytest.mark.parametrize(
    ("size", "code"),
    [
        (0, "CIPHERTEXT_MALFORMED"),
        (SIZE, "PLAINTEXT_PROOF_MISSING"),
        (COUNT * SIZE, "PLAINTEXT_PROOF_MISSING"),
        (KEY.proof_bytes, "CIPHERTEXT_MALFORMED"),
        (SIZE + KEY.proof_bytes - 1, "CIPHERTEXT_MALFORMED"),
    ],
)
def test_sizes_of_no_input(size, code):
    with pytest.raises(IntegrityError) as caught:
        KEY.ciphertext_part(size)
    assert caught.value.code == code


@pytest.mark.parametrize("bits", [2048, 3072])
def test_a_proof_is_shorter_than_a_ciphertext(bits):
    """So the size of an input says whether one is there."""
    modulus = Modulus(mpz(2) ** bits - 1)
    for exponent_bits in (SHORT_EXPONENT_BITS[bits], bits // 2):
        assert plaintext_proof.proof_bytes(modulus, exponent_bits) < modulus.ciphertext_bytes


def test_a_binding_is_a_digest():
    run, proof = made("bank-a")
    for act in (
        lambda: KEY.check_input([run], proof, b"short"),
        lambda: made("bank-a", bound=b"short"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            act()
        assert caught.value.code == "CONTEXT_LENGTH"


def secrets(count):
    """Ciphertexts of a prover with what it knows; the extractor below sees its answers alone."""
    powers = list(KEY.blinder(count).powers(count, seeded("secret")))
    plaintexts = [mpz(7) ** (50 * (j + 1)) % N for j in range(count)]
    ciphertexts = [
        KEY.modulus.blinded(m, power) for m, (_, power) in zip(plaintexts, powers, strict=True)
    ]
    return plaintexts, [exponent for exponent, _ in powers], ciphertexts


def answered(monkeypatch, given, plaintexts, exponents, ciphertexts):
    """M, after the same commitment, to challenges that the extractor gives."""
    monkeypatch.setattr(plaintext_proof, "_challenges", lambda seed: chain(given))
    proof = own(plaintexts, exponents, ciphertexts)
    accepted(joined(ciphertexts), proof, "bank-c")
    return split(proof)[1]


def test_two_answers_to_one_commitment_give_a_plaintext(monkeypatch):
    known = plaintexts, _, _ = secrets(3)
    for place in range(3):
        first = [11, 22, 33]
        second = [e + 2**100 * (j == place) for j, e in enumerate(first)]
        answers = [answered(monkeypatch, given, *known) for given in (first, second)]
        difference = invert(second[place] - first[place], N)
        assert (answers[1] - answers[0]) * difference % N == plaintexts[place]


def test_one_answer_more_than_ciphertexts_gives_all_plaintexts(monkeypatch):
    """As a rewound prover gives them, whose challenges change in all places at once."""
    known = plaintexts, _, _ = secrets(4)
    rng = np.random.default_rng(1)
    rows = [[int.from_bytes(rng.bytes(16), "big") for _ in range(4)] for _ in range(5)]
    system = [[mpz(1), *map(mpz, row), answered(monkeypatch, row, *known)] for row in rows]
    for column in range(5):  # Gauss-Jordan modulo n; what has no inverse would be a factor of it
        scale = invert(system[column][column], N)
        system[column] = [value * scale % N for value in system[column]]
        for other in range(5):
            if other != column:
                factor = system[other][column]
                system[other] = [
                    (a - factor * b) % N for a, b in zip(system[other], system[column], strict=True)
                ]
    assert [row[-1] for row in system[1:]] == plaintexts


def test_who_chooses_the_challenges_needs_no_plaintext_so_a_proof_tells_none(monkeypatch):
    """The simulator of zero-knowledge: any answer, and the commitment that goes with it."""
    _, _, ciphertexts = secrets(3)
    plaintext, exponent, given = mpz(12345), mpz(2) ** 500 + 1, [7, 8, 9]
    product = mpz(1)
    for c, e in zip(ciphertexts, given, strict=True):
        product = product * powmod(c, e, SQUARE) % SQUARE
    power = powmod(residue_base(KEY.modulus), exponent, SQUARE) * invert(product, SQUARE)
    commitment = KEY.modulus.blinded(plaintext, power % SQUARE)
    simulated = proof_of(b"s" * 32, plaintext, exponent)
    run = joined(ciphertexts)
    assert refusal(run, simulated) == "PLAINTEXT_PROOF_REJECTED"
    asked = []

    def oracle(statement, sha256, value):
        asked.append(value)
        return b"s" * 32

    monkeypatch.setattr(plaintext_proof, "_challenges", lambda seed: chain(given))
    monkeypatch.setattr(plaintext_proof.Statement, "_seed", oracle)
    accepted(run, simulated, "bank-c")
    assert asked == [commitment]


def test_the_answer_hides_the_exponents():
    """A is uniform but for its lowest and highest 2^-128: its nonce is so much longer."""
    longest = (KEY.exponent_bits + 15) + 128 + 32  # Σ e·a of 2^32 ciphertexts
    assert plaintext_proof._nonce_bits(KEY.exponent_bits) - longest >= 128


def test_a_root_of_one_may_be_hidden_and_changes_nothing_that_is_opened():
    """What a proof does not show is that the blinding is a power of h_s; the plaintext stays."""
    plaintexts, exponents, ciphertexts = secrets(2)
    negated = [SQUARE - ciphertexts[0], ciphertexts[1]]
    codes = set()
    for attempt in range(40):
        statement = KEY._plaintext_statement(context().input_binding("bank-c"))
        sha256 = hashlib.sha256(joined(negated)).digest()
        proof = statement.prove(sha256, plaintexts, exponents, seeded(attempt))
        try:
            accepted(joined(negated), proof, "bank-c")
        except IntegrityError as error:
            codes.add(error.code)
        else:
            codes.add("accepted")
    assert codes == {"accepted", "PLAINTEXT_PROOF_REJECTED"}  # by the lowest bit of a challenge
    assert opened(TRUST, joined(negated), (1, 3)) == plaintexts


def test_no_two_proofs_of_one_input_are_alike():
    """Two answers to one commitment would give the plaintexts away, so it is fresh each time."""
    words = LAYOUT.encode({"values": values("bank-a")}, rounding_generator())
    parts = list(KEY.encrypt_words(words, KEY.blinder(COUNT)))
    first, second = (list(KEY.proven(words, parts, DIGEST)) for _ in range(2))
    assert first[:-1] == second[:-1]
    assert all(a != b for a, b in zip(split(first[-1]), split(second[-1]), strict=True))
