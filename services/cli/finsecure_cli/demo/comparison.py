"""The modes beside each other: what each costs, as measured here, and who could see what."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal, get_args

from finsecure_cli.convert import Document
from finsecure_cli.demo.figures import auc_by_round, completed_rounds
from finsecure_cli.output import size

Mode = Literal["masks", "paillier", "bgv", "ckks"]

MODES: tuple[Mode, ...] = get_args(Mode)

_WHO = {
    "masks": "the aggregator: only the sum, even if it lies; with a third of the banks: more",
    "paillier": "the aggregator with one trustee: only the sum; with two, or the dealer: all",
    "bgv": "the aggregator with one trustee: only the sum; with two: each update",
    "ckks": "the aggregator with one trustee: only the sum (inexact); with two: each update",
}


@dataclass(frozen=True)
class ModeFigures:
    """What one run of a mode has shown.

    Attributes:
        rounds: training rounds.
        auc: on the test set, of the last model.
        sent: bytes that a bank sends in a training round, on average.
        seconds: of a training round, on average.
    """

    rounds: int
    auc: float
    sent: float
    seconds: float


def figures_of(findings: Document) -> ModeFigures:
    """Return the figures of a run."""
    rounds = completed_rounds(findings["rounds"])
    training = [item for item in rounds if item.number]
    return ModeFigures(
        rounds=len(training),
        auc=auc_by_round(rounds, findings["scores"]["federated_auc"])[-1][1],
        sent=fmean(count for item in training for count in item.received.values()),
        seconds=fmean(item.seconds for item in training),
    )


def newest_runs(out: Path) -> dict[str, ModeFigures]:
    """Return the figures of the newest demonstration of each mode that lies in a folder.

    Args:
        out: the folder of the last one, with those before it in `earlier/N`.
    """
    earlier = sorted(
        (path for path in out.glob("earlier/*/findings.json") if path.parent.name.isdigit()),
        key=lambda path: int(path.parent.name),
    )
    found: dict[str, ModeFigures] = {}
    for path in (*earlier, out / "findings.json"):
        findings = json.loads(path.read_text())
        found[findings.get("mode", "masks")] = figures_of(findings)
    return found


def comparison_cells(runs: dict[str, ModeFigures]) -> Sequence[tuple[str, ...]]:
    """Return a row for each mode; one that has not been run says how to run it."""
    rows = []
    for mode in MODES:
        run = runs.get(mode)
        measured = (
            ("", f"make demo MODE={mode}", "")
            if run is None
            else (f"{run.auc:.3f}", size(run.sent), f"{run.seconds:.2f}")
        )
        rows.append((mode, *measured, _WHO[mode]))
    return rows
