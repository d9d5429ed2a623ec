"""BGV and CKKS: a million values encrypted, added and opened by two trustees, beside TenSEAL."""

import os
import time

import numpy as np
import tenseal
from finsecure_crypto.encoding import RealSection, VectorLayout, rounding_generator
from finsecure_crypto.homomorphic.ckks import CkksKey
from finsecure_crypto.homomorphic.lattice.keys import LatticeKey, LatticeShare
from finsecure_crypto.homomorphic.mode import Mode

from benchmarks.figures import Figure, Figures, Progress, seconds
from tests.support.lattice import ceremony

COHORT = 10_000
MODES = (Mode.BGV, Mode.CKKS)

# What NVIDIA published with its settings of TenSEAL, and what those are: see notes.LATTICE.
PUBLISHED_EXPANSION = 283 / 19
PUBLISHED_BITS, PUBLISHED_SCALE, PUBLISHED_DEGREE = [60, 40, 40], 2.0**40, 8192


def measure(
    repetitions: int, progress: Progress, *, values: int = 10**6, contributors: int = COHORT
) -> Figures:
    """Measures both modes and TenSEAL on one vector, and the error of a whole cohort in CKKS.

    Args:
        repetitions: of each measurement of time.
        progress: is told what comes next.
        values: 16-bit values of the vector.
        contributors: whose inputs, of one ciphertext each, are summed for the error.
    """
    figures: Figures = {}
    for mode in MODES:
        progress(f"{mode.value}: key")
        key, shares = ceremony(mode)
        progress(f"{mode.value}: {values} values")
        figures |= _vector(key, shares, repetitions, values)
        if isinstance(key, CkksKey):
            progress(f"ckks: a sum of {contributors}")
            figures |= _error(key, shares, contributors)
    progress(f"TenSEAL: {values} values")
    return figures | _tenseal(repetitions, values)


def _layout(values: int) -> VectorLayout:
    return VectorLayout((RealSection("update", values, 1.0, 16),), COHORT)


def _vector(
    key: LatticeKey, shares: dict[int, LatticeShare], repetitions: int, values: int
) -> Figures:
    layout, name = _layout(values), key.mode.value
    given = {"update": np.random.default_rng(0).uniform(-1, 1, values)}
    run, context = b"", os.urandom(32)
    taken: dict[str, list[float]] = {"encrypt": [], "add": [], "partial": [], "open": []}
    for _ in range(repetitions):
        start = time.process_time()
        run = b"".join(key.encrypt(layout, given, rounding_generator()))
        encrypted = time.process_time()
        total = key.add(run, run)
        added = time.process_time()
        partials = {holder: shares[holder].partial(key, total, context) for holder in (1, 2)}
        decrypted = time.process_time()
        sums = key.combine(layout, 2, total, partials, context)
        opened = time.process_time()
        assert np.abs(sums["update"] - 2 * given["update"]).max() < 1e-4
        taken["encrypt"].append(encrypted - start)
        taken["add"].append(added - encrypted)
        taken["partial"].append((decrypted - added) / 2)
        taken["open"].append(opened - added)
    size = "1m" if values == 10**6 else str(values)
    return {
        **{f"{name}_{what}_{size}_s": Figure(tuple(each), "s") for what, each in taken.items()},
        f"{name}_bytes_per_value": Figure((len(run) / values,), "B"),
    }


def _error(key: CkksKey, shares: dict[int, LatticeShare], contributors: int) -> Figures:
    layout = _layout(key.system.parameters.degree)
    rng, total = np.random.default_rng(0), b""
    plain = np.zeros(layout.sections[0].length)
    for _ in range(contributors):
        values = rng.uniform(-1, 1, plain.size)
        plain += values
        run = b"".join(key.encrypt(layout, {"update": values}, rounding_generator()))
        total = key.add(total, run) if total else run
    context = os.urandom(32)
    partials = {holder: shares[holder].partial(key, total, context) for holder in (1, 3)}
    sums = key.combine(layout, contributors, total, partials, context)
    return {
        "ckks_sum_error": Figure((float(np.abs(sums["update"] - plain).max()),)),
        "ckks_error_bound": Figure((key.error_bound(layout),)),
    }


def _tenseal(repetitions: int, values: int) -> Figures:
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, PUBLISHED_DEGREE, coeff_mod_bit_sizes=PUBLISHED_BITS
    )
    context.global_scale = PUBLISHED_SCALE
    half = PUBLISHED_DEGREE // 2
    given = np.random.default_rng(0).uniform(-1, 1, values)
    parts = [given[start : start + half].tolist() for start in range(0, values, half)]
    sizes: list[int] = []

    def work() -> None:
        written = [tenseal.ckks_vector(context, part).serialize() for part in parts]
        sizes.append(sum(map(len, written)))

    size = "1m" if values == 10**6 else str(values)
    return {
        f"tenseal_encrypt_{size}_s": Figure(seconds(work, repetitions), "s"),
        "tenseal_bytes_per_value": Figure(tuple(each / values for each in sizes), "B"),
    }
