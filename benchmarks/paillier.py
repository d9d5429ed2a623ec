"""Paillier: packed encryption with the public key alone, beside phe and one value a ciphertext."""

import os
import time
from collections.abc import Iterator

import numpy as np
import phe
from finsecure_client.encryptors import Encryptors
from finsecure_crypto.encoding import RealSection, VectorLayout, rounding_generator
from finsecure_crypto.homomorphic.paillier import proof as partial_proof
from finsecure_crypto.homomorphic.paillier.blinding import Blinder
from finsecure_crypto.homomorphic.paillier.dealer import Dealt, deal
from finsecure_crypto.homomorphic.paillier.integers import from_bytes
from finsecure_crypto.homomorphic.paillier.key import Encrypted, PaillierKey

from benchmarks.figures import Figure, Figures, Progress, seconds

VALUE_BITS = 16
COHORT = 10_000  # two lanes of 30 bits in a word
SMALL_COHORT = 32  # three lanes of 21 bits
WINDOW = 12
BINDING = bytes(32)  # of the proofs
REPEATED = 32  # how often a run is repeated to measure what follows the partials
SIZES = (2048, 3072)


def measure(
    repetitions: int,
    progress: Progress,
    *,
    ciphertexts: int = 2000,
    opened: int = 24,
    proven: int = 1_000_000,
) -> Figures:
    """Measures encryption at both sizes, and the opening and the peers at each.

    Rates are CPU seconds of one core from the reals to the bytes, encoding and proof included, with
    a table that was made before; its own cost is a figure. The peers encrypt in the same run. The
    gain of a second core is one of wall time.

    Args:
        repetitions: of each measurement.
        progress: is told what comes next.
        ciphertexts: in one repetition of our encryption.
        opened: ciphertexts that are opened, and encrypted by the peers.
        proven: values of the input whose proof is made and verified.
    """
    figures: Figures = {}
    for bits in SIZES:
        progress(f"paillier {bits}: key")
        dealt = deal(bits)
        figures |= _encryption(dealt.key, repetitions, progress, ciphertexts)
        progress(f"paillier {bits}: proof of the plaintexts")
        figures |= _proof(dealt.key, repetitions, ciphertexts, proven)
        progress(f"paillier {bits}: opening")
        figures |= _opening(dealt, repetitions, opened)
        progress(f"paillier {bits}: one value a ciphertext, phe")
        figures |= _peers(dealt.key, repetitions, opened)
        if bits == SIZES[0]:
            figures |= _cores(dealt.key, repetitions, progress, ciphertexts // 2)
    return figures


def _layout(key: PaillierKey, cohort: int, ciphertexts: int) -> VectorLayout:
    lane = VALUE_BITS + (cohort - 1).bit_length()
    return VectorLayout(
        (RealSection("update", ciphertexts * key.modulus.words * (64 // lane), 1.0, VALUE_BITS),),
        cohort,
    )


def _encryption(
    key: PaillierKey, repetitions: int, progress: Progress, ciphertexts: int
) -> Figures:
    start = time.process_time()
    blinder = Blinder(key.modulus, key.exponent_bits, WINDOW)
    name = f"paillier_{key.modulus.bits}"
    figures: Figures = {f"{name}_table_s": Figure((time.process_time() - start,), "s")}
    for suffix, cohort in (("", COHORT), (f".{SMALL_COHORT}", SMALL_COHORT)):
        progress(f"{name}: {cohort} clients")
        layout = _layout(key, cohort, ciphertexts)
        length = layout.sections[0].length
        values = np.random.default_rng(0).uniform(-1, 1, length)

        def work(layout: VectorLayout = layout, values: np.ndarray = values) -> None:
            words = layout.encode({"update": values}, rounding_generator())
            encrypted = key.encrypt_words(words, blinder)
            made = sum(map(len, key.proven(words, encrypted, BINDING)))
            assert made == key.shape(layout).input_bytes

        rates = tuple(length / each for each in seconds(work, repetitions))
        figures[f"{name}_values_per_s{suffix}"] = Figure(rates, "1/s")
        figures[f"{name}_bytes_per_value{suffix}"] = Figure(
            (key.shape(layout).total_bytes / length,), "B"
        )
    return figures


def _proof(key: PaillierKey, repetitions: int, ciphertexts: int, values: int) -> Figures:
    """Proves a whole input and verifies it; a part of it is encrypted and then repeated."""
    layout = _layout(key, COHORT, ciphertexts)
    length = layout.sections[0].length
    words = layout.encode({"update": np.zeros(length)}, rounding_generator())
    repeated = -(-values // length)
    parts = list(key.encrypt_words(words, key.blinder(ciphertexts))) * repeated
    words = np.tile(words, repeated)
    name, taken = f"paillier_{key.modulus.bits}", dict[str, list[float]]()
    for _ in range(repetitions):
        start = time.process_time()
        *runs, proof = key.proven(words, parts, BINDING)
        taken.setdefault("proof", []).append(time.process_time() - start)
        run = b"".join(runs)
        start = time.process_time()
        key.check_input([run], proof, BINDING)
        taken.setdefault("verify_proof", []).append(time.process_time() - start)
    return {f"{name}_{what}_s": Figure(tuple(times), "s") for what, times in taken.items()}


def _opening(dealt: Dealt, repetitions: int, opened: int) -> Figures:
    key, name = dealt.key, f"paillier_{dealt.key.modulus.bits}"
    layout = _layout(key, COHORT, opened)
    values = {"update": np.linspace(-1, 1, layout.sections[0].length)}
    run = b"".join(key.encrypt(layout, values, rounding_generator()))
    context = os.urandom(32)
    taken: dict[str, list[float]] = {"check": [], "add": [], "partial": [], "combine": []}
    for _ in range(repetitions):
        total, partials = key.add(run, run), {}
        start = time.process_time()
        for share in dealt.shares[:2]:
            partials[share.holder] = share.partial(key, total, context)
        taken["partial"].append((time.process_time() - start) / 2 / opened)
        sums = key.combine(layout, 2, total, partials, context)
        step = 1 / (2 ** (VALUE_BITS - 1) - 1)
        assert np.abs(sums["update"] - 2 * values["update"]).max() <= 2 * step
        total, partials = _repeated(dealt, total, partials, context)
        count = opened * REPEATED
        taken["check"].append(seconds(lambda total=total: key.check(total), 1)[0] / count)
        taken["add"].append(seconds(lambda total=total: key.add(total, total), 1)[0] / count)
        start = time.process_time()
        key.open_integers(total, partials, context)
        taken["combine"].append((time.process_time() - start) / count)
    return {
        f"{name}_{what}_us": Figure(tuple(each * 1e6 for each in times), "µs")
        for what, times in taken.items()
    }


def _repeated(
    dealt: Dealt, total: bytes, partials: dict[int, bytes], context: bytes
) -> tuple[bytes, dict[int, bytes]]:
    """Repeats a run with its partials, proven anew: partials of a long run would take minutes."""
    key, longer = dealt.key, total * REPEATED
    ciphertexts, proven = key.modulus.parse(longer), {}
    for holder, partial in partials.items():
        written = partial[: len(total)] * REPEATED
        statement = key.statement(
            holder, context, (longer, ciphertexts), (written, key.modulus.parse(written))
        )
        secret = from_bytes(dealt.shares[holder - 1].secret.expose())
        proven[holder] = written + partial_proof.prove(statement, key.delta * secret, os.urandom)
    return longer, proven


def _peers(key: PaillierKey, repetitions: int, count: int) -> Figures:
    """One 16-bit value in each ciphertext: our own classical form, and phe."""
    name = f"paillier_{key.modulus.bits}"
    public = phe.PaillierPublicKey(n=int(key.modulus.n))
    values = [int(v) for v in np.random.default_rng(0).integers(0, 2**VALUE_BITS, count)]
    naive, theirs = [], []
    for _ in range(repetitions):
        naive += seconds(lambda: key.modulus.encrypt(values, os.urandom), 1)
        theirs += seconds(lambda: [public.encrypt(v).ciphertext() for v in values], 1)
    return {
        f"{name}_naive_values_per_s": Figure(tuple(count / each for each in naive), "1/s"),
        f"{name}_phe_values_per_s": Figure(tuple(count / each for each in theirs), "1/s"),
    }


def _cores(key: PaillierKey, repetitions: int, progress: Progress, ciphertexts: int) -> Figures:
    """Two worker processes against one, as the client uses them, in wall time.

    The best of several short runs: it is the one in which nobody else wanted the second core.
    """
    words = np.arange(ciphertexts * key.modulus.words, dtype=np.uint64)
    gains = []
    with Encryptors(key, 1, WINDOW) as one, Encryptors(key, 2, WINDOW) as two:
        for workers in (one, two):
            _drain(workers.encrypt_words(words))  # makes the tables
        for repetition in range(repetitions):
            progress(f"paillier on two cores, {repetition + 1} of {repetitions}")
            alone, together = (
                min(seconds(lambda w=w: _drain(w.encrypt_words(words)), 8, time.perf_counter))
                for w in (one, two)
            )
            gains.append(alone / together)
    return {"paillier_two_core_speedup": Figure(tuple(gains))}


def _drain(parts: Iterator[Encrypted]) -> None:
    assert sum(len(part.run) for part in parts) > 0
