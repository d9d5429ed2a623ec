"""The peer: Flower's SecAgg+, in an environment of its own, on the same work as ours.

Its masks come from the Mersenne Twister, seeded with 32 bits that a 256-bit secret is folded into
(`pseudo_rand_gen` in flwr/common/secure_aggregation): whoever sees a masked vector and guesses
one coordinate finds the seed by trying. Its messages are neither signed nor checked for
consistency. So it does less than we do, and the figures are to be read with that in mind.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import rounds
from benchmarks.figures import Figure, Figures, Progress, UnavailableError

VERSION = "1.41.0"
_ENVIRONMENT = Path(__file__).resolve().parent.parent / "build" / "flower"
_PEER = Path(__file__).with_name("flower_peer.py")
# What our sparse semi-honest round of 1000 clients has: 72 neighbours and the client itself.
_SHARES, _THRESHOLD = 73, 24
LARGE = 200  # 1000 would take it hours


def measure(repetitions: int, progress: Progress, *, whole: bool) -> Figures:
    """Measures Flower's primitives and its whole workflow, and our rounds of the same size.

    Args:
        repetitions: of our rounds; Flower's run once.
        progress: is told what comes next.
        whole: also run Flower's whole round with `LARGE` clients, for some minutes.

    Raises:
        UnavailableError: where there is no Flower.
    """
    progress("Flower: installing")
    python = _install()
    figures = _side_by_side(python, repetitions, progress, clients=50)
    progress("Flower: primitives for 1000 clients")
    asked = {"clients": 1000, "values": 100_000, "shares": _SHARES, "threshold": _THRESHOLD}
    cost = _ask(python, asked | {"dropouts": []})["primitives"]
    for name, taken in cost.items():
        figures[f"flower_primitive_ms.{name}"] = Figure((taken * 1e3,), "ms")
    for percent in rounds.DROPOUTS:
        gone = 1000 * percent // 100
        figures[f"flower_server_seconds_from_primitives.1000.{percent}"] = Figure(
            (
                (1000 - gone) * (cost["rebuild_seed"] + cost["mask"])
                + gone * cost["rebuild_key"]
                + gone * (_SHARES - 1) * (cost["agree"] + cost["mask"]),
            ),
            "s",
        )
    figures["flower_client_seconds_from_primitives.1000"] = Figure(
        (
            cost["split_seed"]
            + cost["split_key"]
            + 2 * (_SHARES - 1) * cost["agree"]
            + _SHARES * cost["mask"],
        ),
        "s",
    )
    if whole:
        progress(f"Flower: whole rounds of {LARGE} clients")
        asked |= {"clients": LARGE, "dropouts": list(rounds.DROPOUTS)}
        for percent, theirs in _ask(python, asked)["workflow"].items():
            figures[f"flower_server_seconds.{LARGE}.{percent}"] = Figure((theirs["server"],), "s")
            figures[f"flower_client_seconds.{LARGE}.{percent}"] = Figure((theirs["client"],), "s")
    return figures


def _side_by_side(python: Path, repetitions: int, progress: Progress, *, clients: int) -> Figures:
    """Runs whole rounds of both, complete graph, t = n/2 + 1, the most that Flower has."""
    progress(f"Flower: whole rounds of {clients} clients")
    asked = {"clients": clients, "values": 100_000, "dropouts": list(rounds.DROPOUTS)}
    found = _ask(python, asked | {"shares": clients, "threshold": clients // 2 + 1})
    variant = "complete.semi_honest"
    ours = rounds.measure(repetitions, progress, clients=clients, variants=(variant,))
    figures: Figures = {}
    for percent in rounds.DROPOUTS:
        theirs = found["workflow"][str(percent)]
        for side in ("server", "client"):
            suffix = f"{clients}.{percent}"
            figures[f"flower_{side}_seconds.{suffix}"] = Figure((theirs[side],), "s")
            figures[f"beside_flower_{side}_seconds.{suffix}"] = ours[
                f"{side}_seconds.{percent}.{variant}"
            ]
    return figures


def _ask(python: Path, asked: dict[str, Any]) -> dict[str, Any]:
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "PYTHONPATH": ""}
    done = subprocess.run(
        [str(python), str(_PEER), json.dumps(asked)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise UnavailableError(f"Flower {VERSION} does not run here: {done.stderr[-400:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _install() -> Path:
    python = _ENVIRONMENT / "bin" / "python"
    marker = _ENVIRONMENT / f".flwr-{VERSION}"
    if marker.exists():
        return python
    steps = (
        [sys.executable, "-m", "venv", str(_ENVIRONMENT)],
        [str(python), "-m", "pip", "install", "--quiet", f"flwr=={VERSION}"],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"Flower {VERSION} cannot be installed: {done.stderr[-400:]}")
    marker.touch()
    return python
