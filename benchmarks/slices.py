"""The same sum on each back end of the aggregator's arithmetic: threads, processes, Ray."""

import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from finsecure_aggregator.accumulator import Accumulator
from finsecure_aggregator.arithmetic import open_slices
from finsecure_aggregator.config import Arithmetic
from finsecure_aggregator.slices import Masks, Slices, Words
from finsecure_crypto.secret import SecretBytes

from benchmarks.figures import Figure, Figures, Progress

BACKENDS = ("threads", "processes", "ray")
WORKERS = 2


def measure(
    repetitions: int,
    progress: Progress,
    *,
    words: int = 2**21,
    inputs: int = 20,
    masks: int = 1000,
    backends: tuple[str, ...] = BACKENDS,
) -> Figures:
    """Measures two slices on each back end, in wall seconds: workers are processes of their own.

    Starting the workers is in it; starting the cluster is not. Every sum is compared with that of
    the first back end.
    """
    generator = np.random.default_rng(0)
    keys = [(SecretBytes(os.urandom(16)), +1) for _ in range(masks)]
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.words" for number in range(inputs)]
        for path in paths:
            generator.integers(0, 2**64, words, np.uint64).astype("<u8").tofile(path)
        expected: Words | None = None
        for name in backends:
            taken = []
            with ExitStack() as stack:
                slices = _open(name, stack)
                for repetition in range(repetitions):
                    progress(f"slices in {name}, {repetition + 1} of {repetitions}")
                    start = time.perf_counter()
                    found = _sum(slices, words, paths, keys)
                    taken.append(time.perf_counter() - start)
                    expected = found if expected is None else expected
                    assert np.array_equal(found, expected)
            figures[f"slices_{name}_s"] = Figure(tuple(taken), "s")
    return figures


def _sum(slices: Slices, words: int, paths: list[Path], masks: Masks) -> Words:
    accumulator = Accumulator(words, slices, least_words=1)
    for path in paths:
        accumulator.add_input(path)
    found = accumulator.unmask(masks)
    accumulator.close()
    return found


def _open(name: str, stack: ExitStack) -> Slices:
    match name:
        case "processes":
            settings = Arithmetic(backend="processes", workers=WORKERS)
        case "ray":
            settings = Arithmetic(backend="ray", workers=WORKERS, ray_address=_cluster(stack))
        case _:
            settings = Arithmetic(backend="threads", workers=WORKERS)
    slices = open_slices(settings)
    stack.callback(slices.close)
    return slices


def _cluster(stack: ExitStack) -> str:
    """Starts a Ray cluster of two nodes on this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Else its workers give way to all else that runs. The spelling is Ray's.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 200 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    stack.callback(cluster.shutdown)
    cluster.add_node(**node)
    cluster.wait_for_nodes()
    return str(cluster.address)
