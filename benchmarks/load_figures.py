"""The figures of the load runs, for results.json and docs/benchmarks.md."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import Figure, Figures, Progress
from benchmarks.load_round import Load, Outcome, run

KILL = 0.1
INGEST = Load(24, 8_000_000, sparse=None, hold=True)
_IN_MEMORY = Path("/dev/shm")  # noqa: S108  # a file system without a disk, where there is one
QUICK = {"100x100k": Load(100, 100_000, KILL)}
FULL = {
    "1000x1m": Load(1000, 1_000_000, KILL),
    "10000x10k": Load(10_000, 10_000, KILL, profile="semi_honest"),
    "10000x10k-active": Load(10_000, 10_000, KILL),
}
PEAKS = tuple(Load(n, d, drivers=1) for n, d in ((25, 100_000), (100, 100_000), (25, 1_000_000)))
LARGEST_PEAK = Load(100, 1_000_000, drivers=1)

_PAGE_PHASES = (
    "advertise_keys",
    "share_keys",
    "submit_input",
    "confirm_survivors",
    "reveal_shares",
    "unmasking",
)


def measure(say: Progress, *, full: bool) -> Figures:
    """Measures the rate of uploads, the aggregator's memory, and whole rounds with killed clients.

    Args:
        say: is told how far it is.
        full: run the large rounds too.
    """
    figures: Figures = {}
    for name, folder in (("ingest", _IN_MEMORY), ("ingest_disk", None)):
        if folder is None or folder.is_dir():
            figures |= _ingest(name, _run(name, replace(INGEST, folder=folder), say))
    for load in (*PEAKS, LARGEST_PEAK) if full else PEAKS:
        name = f"{load.clients}x{load.coordinates}"
        outcome = _run(f"peak memory, {name}", load, say)
        figures[f"server_process_peak_mb.{name}"] = Figure((outcome.server_peak_mb,), "MB")
    for name, load in {**QUICK, **(FULL if full else {})}.items():
        figures |= of_round(name, _run(f"load {name}", load, say))
    return figures


def of_round(name: str, outcome: Outcome) -> Figures:
    """The figures of one whole round, under `load_<name>`."""
    key = f"load_{name}"
    figures = {
        key: Figure((outcome.round_s,), "s"),
        f"{key}.survivors": Figure((outcome.survivors,)),
        f"{key}.server_peak_mb": Figure((outcome.server_peak_mb,), "MB"),
        f"{key}.server_idle_mb": Figure((outcome.server_idle_mb,), "MB"),
        f"{key}.sent_bytes": Figure((median(outcome.sent),), "B"),
        f"{key}.received_bytes": Figure((median(outcome.received),), "B"),
        f"{key}.input_bytes": Figure((outcome.input_bytes,), "B"),
    }
    for phase, cost in outcome.phases.items():
        figures[f"{key}.seconds.{phase}"] = Figure((cost.seconds,), "s")
        figures[f"{key}.server_cpu.{phase}"] = Figure((cost.server_cpu_s,), "s")
        figures[f"{key}.driver_cpu.{phase}"] = Figure((cost.driver_cpu_s,), "s")
    return figures


def _ingest(name: str, outcome: Outcome) -> Figures:
    gigabytes = outcome.survivors * outcome.input_bytes / 1e9
    return {
        f"{name}_mb_s": Figure((outcome.ingest_mb_s,), "MB/s"),
        f"{name}_server_cpu_s_per_gb": Figure((outcome.upload_server_cpu_s / gigabytes,), "s/GB"),
        f"{name}_driver_cpu_s_per_gb": Figure((outcome.upload_driver_cpu_s / gigabytes,), "s/GB"),
    }


def _run(what: str, load: Load, say: Progress) -> Outcome:
    def tell(counts: Counter[str]) -> None:
        steps = ("connected", *_PAGE_PHASES, "outcome")
        step = next((s for s in reversed(steps) if counts[s]), "issued")
        say(f"{what}: {step.replace('_', ' ')} {counts[step]} of {load.clients}")

    say(what)
    return asyncio.run(run(load, tell))


def rows(figures: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the page's table: one column for each whole round that was run."""
    names = [name for name in (*QUICK, *FULL) if f"load_{name}" in figures]

    def value(key: str, scale: float = 1.0) -> list[str]:
        entries = [figures.get(f"load_{name}{key}") for name in names]
        return [f"{e['median'] / scale:.4g}" if e else "n/a" for e in entries]

    table = [["whole round, wall s", *value("")]]
    for phase in ("connect", *_PAGE_PHASES):
        spoken = phase.replace("_", " ")
        walls, cpus = value(f".seconds.{phase}"), value(f".server_cpu.{phase}")
        both = [f"{wall} ({cpu})" for wall, cpu in zip(walls, cpus, strict=True)]
        table.append([f"{spoken}, wall s (server's CPU s)", *both])
    table += [
        ["aggregator's peak, MB", *value(".server_peak_mb")],
        ["before the first client, MB", *value(".server_idle_mb")],
        ["inputs in the sum", *value(".survivors")],
        ["a client sends, kB", *value(".sent_bytes", 1e3)],
        ["of that its input, kB", *value(".input_bytes", 1e3)],
        ["a client receives, kB", *value(".received_bytes", 1e3)],
    ]
    return ["clients x coordinates", *names], table
