"""Runs the benchmarks: `python -m benchmarks`, or `make bench` and `make bench-full`."""

import argparse
import sys
from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import (
    expansion,
    flower,
    keyservice,
    lattice,
    load_figures,
    masks,
    memory,
    paillier,
    profiles,
    raw,
    report,
    rounds,
    shamir,
    slices,
)
from benchmarks.figures import Figures, UnavailableError

Say = Callable[[str], None]

SETS: dict[str, Callable[[Say, bool], Figures]] = {
    "raw": lambda say, full: raw.measure(9 if full else 5, say),
    "masks": lambda say, full: masks.measure(9 if full else 5, say),
    "shamir": lambda say, full: shamir.measure(25 if full else 9, say),
    "expansion": lambda say, _full: expansion.measure(say),
    "slices": lambda say, full: slices.measure(9 if full else 3, say),
    "memory": lambda say, full: memory.measure(3 if full else 1, say),
    "paillier": lambda say, full: paillier.measure(9 if full else 3, say),
    "lattice": lambda say, full: lattice.measure(9 if full else 3, say),
    "keyservice": lambda say, full: keyservice.measure(9 if full else 5, say),
    "rounds": lambda say, full: rounds.measure(
        5 if full else 1, say, variants=rounds.VARIANTS if full else rounds.QUICK
    ),
    "profile": lambda say, _full: profiles.measure(say),
    "load": lambda say, full: load_figures.measure(say, full=full),
    "flower": lambda say, full: flower.measure(5 if full else 3, say, whole=full),
}


def main() -> int:
    """Runs the sets that are asked for, prints their figures, and writes the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], help="all, if none is named")
    parser.add_argument("--full", action="store_true", help="more repetitions and larger sizes")
    asked = parser.parse_args()
    console, missing = Console(), {}
    for name in asked.sets or SETS:
        with Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console
        ) as progress:
            task = progress.add_task(name)
            try:
                figures = SETS[name](partial(_say, progress, task), asked.full)
            except UnavailableError as error:
                missing[name] = str(error)
                continue
        console.print(table(name, figures))
        # After each set, so that an interrupted run keeps what it has measured.
        report.record(figures)
    for name, why in missing.items():
        console.print(f"[yellow]left out: {name}: {why}")
    report.write_page()
    console.print(f"Written: {report.RESULTS} and {report.PAGE}")
    return 0


def _say(progress: Progress, task: TaskID, text: str) -> None:
    progress.update(task, description=text)


def table(name: str, figures: Figures) -> Table:
    """Makes the table of one set."""
    shown = Table(title=name, title_justify="left")
    shown.add_column("figure")
    for column in ("median", "min", "max", "repetitions"):
        shown.add_column(column, justify="right")
    shown.add_column("unit")
    for key, figure in figures.items():
        values = (figure.median, min(figure.values), max(figure.values))
        shown.add_row(
            key, *(f"{value:.4g}" for value in values), str(len(figure.values)), figure.unit
        )
    return shown


if __name__ == "__main__":
    sys.exit(main())
