"""Load: thousands of clients over gRPC and mTLS against one aggregator process.

`python -m benchmarks.load --clients 1000 --coordinates 1000000 --kill 0.1` runs one round, shows
how it goes and prints what it cost. The clients are real protocol clients, each with certificates
and a connection of its own, some thousand in one driver process; the key service is a stand-in
that serves the revocation list, and certificates are issued by the drivers.
"""

import argparse
import asyncio
import sys
from collections import Counter
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.load_round import Load, Outcome, run

_STEPS = {
    "connected": "connect",
    "advertise_keys": "advertise keys",
    "share_keys": "share keys",
    "masked": "mask inputs",
    "submit_input": "submit inputs",
    "confirm_survivors": "confirm survivors",
    "reveal_shares": "reveal shares",
    "outcome": "hear the outcome",
}


def watched(load: Load, console: Console) -> Outcome:
    """Runs a round with a progress bar for each step."""
    with Progress(
        TextColumn("{task.description:18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        bars = {key: progress.add_task(step, total=load.clients) for key, step in _STEPS.items()}

        def tell(counts: Counter[str]) -> None:
            for key, bar in bars.items():
                progress.update(bar, completed=counts[key])

        return asyncio.run(run(load, tell))


def table(outcome: Outcome) -> Table:
    """The result for people."""
    load = outcome.load
    graph = "complete graph" if load.sparse is None else f"sparse graph {load.sparse}"
    made = Table(
        title=f"{load.clients} clients x {load.coordinates} coordinates, {load.profile}, {graph}, "
        f"{load.kill:.0%} killed",
        caption=f"The sum of {outcome.survivors} inputs is exact. Aggregator: peak "
        f"{outcome.server_peak_mb:.0f} MB, {outcome.server_idle_mb:.0f} MB before the clients. "
        f"Bytes per client: sent {median(outcome.sent):.0f} (input {outcome.input_bytes}), "
        f"received {median(outcome.received):.0f}. Uploads {outcome.ingest_mb_s:.0f} MB/s, CPU "
        f"seconds server {outcome.upload_server_cpu_s:.1f}, drivers "
        f"{outcome.upload_driver_cpu_s:.1f}. "
        f"Calls repeated: {outcome.repeated}.",
    )
    made.add_column("phase")
    for name in ("seconds", "server CPU s", "drivers' CPU s", "server MB", "answers"):
        made.add_column(name, justify="right")
    for name, cost in outcome.phases.items():
        made.add_row(
            name.replace("_", " "),
            f"{cost.seconds:.2f}",
            f"{cost.server_cpu_s:.2f}",
            f"{cost.driver_cpu_s:.2f}",
            f"{cost.server_mb:.0f}",
            str(cost.answers or ""),
        )
    made.add_row("round", f"{outcome.round_s:.2f}", end_section=True)
    return made


def main(arguments: list[str]) -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--coordinates", type=int, default=1_000_000)
    parser.add_argument("--kill", type=float, default=0.0, help="share of the clients, 0 to 1")
    parser.add_argument("--profile", choices=("active", "semi_honest"), default="active")
    parser.add_argument("--complete", action="store_true", help="complete instead of sparse graph")
    parser.add_argument("--corrupt", type=float, default=0.05, help="sparse graph's gamma")
    parser.add_argument("--dropout", type=float, default=0.15, help="sparse graph's delta")
    parser.add_argument("--drivers", type=int, default=2, help="processes that drive clients")
    parser.add_argument("--hold", action="store_true", help="mask everything before uploading")
    parser.add_argument("--folder", type=Path, help="where the aggregator keeps its files")
    given = parser.parse_args(arguments)
    console = Console()
    try:
        load = Load(
            clients=given.clients,
            coordinates=given.coordinates,
            kill=given.kill,
            profile=given.profile,
            sparse=None if given.complete else (given.corrupt, given.dropout),
            drivers=given.drivers,
            hold=given.hold,
            folder=given.folder,
        )
    except ValueError as error:
        parser.error(str(error))
    console.print(table(watched(load, console)))


if __name__ == "__main__":
    main(sys.argv[1:])
