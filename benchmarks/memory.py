"""Peak memory of the server's sum against the number of clients and the length of the vector.

Each measurement is a process of its own, with the aggregator's accumulator as production runs it:
inputs are read from a file, added, and the masks removed. Run as `python -m benchmarks.memory n d`
it is such a process.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from finsecure_aggregator.accumulator import Accumulator
from finsecure_aggregator.slices import LocalSlices
from finsecure_crypto.secret import SecretBytes

from benchmarks.figures import Figure, Figures, Progress

CLIENTS = (10, 100, 1000)
WORDS = (2**17, 2**20, 2**22)


def measure(
    repetitions: int,
    progress: Progress,
    *,
    clients: tuple[int, ...] = CLIENTS,
    words: tuple[int, ...] = WORDS,
) -> Figures:
    """Measures the peak for each vector length and number of clients."""
    figures: Figures = {}
    for length in words:
        for count in clients:
            progress(f"memory: {count} clients, {length} words")
            values = tuple(_peak(count, length) for _ in range(repetitions))
            figures[f"server_peak_mb.{count}x{length}"] = Figure(values, "MB")
    figures["server_peak_mb.imports"] = Figure(tuple(_peak(0, 2) for _ in range(repetitions)), "MB")
    return figures


def _peak(clients: int, words: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", str(clients), str(words)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    return float(done.stdout)


def _aggregate(clients: int, words: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input"
        with path.open("wb") as file:
            for start in range(0, words, 2**16):
                np.arange(start, min(start + 2**16, words), dtype="<u8").tofile(file)
        accumulator = Accumulator(words, LocalSlices(2))
        for _ in range(clients):
            accumulator.add_input(path)
        accumulator.unmask([(SecretBytes(os.urandom(16)), -1) for _ in range(clients)])
        accumulator.close()


if __name__ == "__main__":
    _aggregate(int(sys.argv[1]), int(sys.argv[2]))
    # Not getrusage: there a process inherits the peak of the one that started it.
    status = Path("/proc/self/status").read_text("ascii")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    print(int(peak.split()[1]) * 1024 / 1e6)
