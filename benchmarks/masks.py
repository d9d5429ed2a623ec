"""How fast a mask is expanded and added, against the same cipher in `openssl speed`."""

import os
from functools import partial
from time import perf_counter

import numpy as np
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.secret import SecretBytes

from benchmarks import raw
from benchmarks.figures import Figure, Figures, Progress, seconds


def measure(
    repetitions: int, progress: Progress, *, words: int = 2**20, masks: int = 100
) -> Figures:
    """Measures one thread against openssl, and two threads against one.

    The raw figure and ours alternate, so that a machine that slows down slows down both. CPU time
    is compared with CPU time; the gain of a second thread is one of wall time.
    """
    accumulator = np.zeros(words, np.uint64)
    keys = [(SecretBytes(os.urandom(16)), +1) for _ in range(masks)]
    gigabytes = words * 8 * masks / 1e9
    speeds, ratios, gains = [], [], []
    for repetition in range(repetitions):
        progress(f"masks, {repetition + 1} of {repetitions}")
        limit = raw.openssl_ctr()
        speeds.append(gigabytes / seconds(lambda: apply_masks(accumulator, keys), 1)[0])
        ratios.append(speeds[-1] / limit)
        alone, together = (
            min(seconds(partial(apply_masks, accumulator, keys, threads=threads), 3, perf_counter))
            for threads in (1, 2)
        )
        gains.append(alone / together)
    return {
        "mask_gb_s": Figure(tuple(speeds), "GB/s"),
        "mask_ratio_to_openssl": Figure(tuple(ratios)),
        "mask_two_thread_speedup": Figure(tuple(gains)),
    }
