"""How long it takes to share a client's secrets and to rebuild those of a whole roster."""

import os

import numpy as np
from finsecure_crypto import shamir
from finsecure_crypto.secret import SecretBytes

from benchmarks.figures import Figure, Figures, Progress, seconds


def measure(repetitions: int, progress: Progress, *, roster: int = 1000) -> Figures:
    """Measures splitting both secrets of one client, and rebuilding one secret of each.

    Args:
        repetitions: of each measurement.
        progress: is told what comes next.
        roster: the papers' n; t is that of the active profile, ⌊2n/3⌋ + 1.
    """
    progress(f"Shamir sharing for {roster} clients")
    threshold = 2 * roster // 3 + 1
    points = np.arange(1, roster + 1, dtype=np.uint32)
    secrets = [SecretBytes(os.urandom(32)) for _ in range(2)]
    dealt = shamir.split(secrets, threshold, points)
    revealed = np.broadcast_to(dealt[0], (roster, *dealt[0].shape)).copy()
    rebuilt = shamir.reconstruct_many(revealed, points, threshold)
    assert rebuilt == [secrets[0]] * roster
    split = seconds(lambda: shamir.split(secrets, threshold, points), repetitions)
    rebuild = seconds(lambda: shamir.reconstruct_many(revealed, points, threshold), repetitions)
    return {
        f"shamir_split_{roster}_ms": Figure(tuple(each * 1e3 for each in split), "ms"),
        f"shamir_rebuild_{roster}_ms": Figure(tuple(each * 1e3 for each in rebuild), "ms"),
    }
