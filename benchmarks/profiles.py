"""Where the server's time goes, function by function: py-spy samples it while a round is played.

`python -m benchmarks profile` samples the rounds of `WHERE`; one alone is played without a
profiler by `python -m benchmarks.profiles complete.active 10`.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks import rounds
from benchmarks.figures import Figure, Figures, Progress, UnavailableError

WHERE = ((rounds.HEADLINE, 0), (rounds.HEADLINE, 10), ("sparse.semi_honest", 10))
"""Variant and per cent of drop-outs of each round that is sampled."""

_ROOT = Path(__file__).resolve().parent.parent
LEAST_SHARE = 1.0
"""Per cent, below which a function is not named."""
_HERTZ = 500
# A stopwatch that the round itself starts measures the server; the client has one of its own.
_SERVER = re.compile(r"\bplay \([^;]*\brounds\.py:\d+\);[^;(]*\btime \([^;]*\bcohort\.py:\d+\)")
_OURS = "finsecure_crypto/"
_REST = "sums and digests of vectors"  # what a stopwatch measures outside of the protocol core


def measure(
    progress: Progress,
    *,
    clients: int = 1000,
    values: int = 100_000,
    where: tuple[tuple[str, int], ...] = WHERE,
) -> Figures:
    """Samples the server in each of the rounds; a figure is a function's share in per cent.

    Time in a library counts for the function of the core that called it.

    Raises:
        UnavailableError: where there is no py-spy, or it may not sample.
    """
    figures: Figures = {}
    for variant, percent in where:
        progress(f"profile of {variant}, {percent} % gone")
        samples = _server_samples(_sample(variant, percent, clients, values))
        for function, count in samples.items():
            share = 100 * count / samples.total()
            if share >= LEAST_SHARE:
                key = f"profile.{percent}.{variant}/{function}"
                figures[key] = Figure((share,), "%")
    return figures


def _sample(variant: str, percent: int, clients: int, values: int) -> list[str]:
    """Returns the folded stacks of a whole process that plays one round, with their counts."""
    beside = Path(sys.executable).with_name("py-spy")
    spy = str(beside) if beside.exists() else shutil.which("py-spy")
    if spy is None:
        raise UnavailableError("py-spy is missing: install the extra `dev`")
    with tempfile.TemporaryDirectory() as folder:
        folded = Path(folder) / "folded"
        played = (sys.executable, "-m", "benchmarks.profiles", variant, str(percent))
        done = subprocess.run(
            [
                *(spy, "record", "--rate", str(_HERTZ), "--format", "raw"),
                *("--output", str(folded), "--", *played, str(clients), str(values)),
            ],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not folded.exists():
            raise UnavailableError(f"py-spy cannot sample here: {done.stderr[-400:]}")
        return folded.read_text("utf-8").splitlines()


def _server_samples(folded: list[str]) -> Counter[str]:
    """Counts the samples of the server's work by function of the core."""
    counts: Counter[str] = Counter()
    for line in folded:
        stack, _, count = line.rpartition(" ")
        server = _SERVER.search(stack)
        if server is not None:
            ours = [frame for frame in stack[server.end() :].split(";") if _OURS in frame]
            counts[_spoken(ours[-1]) if ours else _REST] += int(count)
    return counts


def _spoken(frame: str) -> str:
    """Writes `exchange (finsecure_crypto/agreement.py:60)` as `agreement.exchange`."""
    function, _, place = frame.partition(" (")
    module = place.partition(_OURS)[2].partition(".py")[0].rpartition("/")[2]
    return f"{module}.{function.rpartition('.')[2]}"


def main(arguments: list[str]) -> None:
    """Plays the round that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles", description=__doc__)
    parser.add_argument("variant")
    parser.add_argument("percent", type=int)
    parser.add_argument("clients", type=int, nargs="?", default=1000)
    parser.add_argument("values", type=int, nargs="?", default=100_000)
    asked = parser.parse_args(arguments)
    rounds.measure(
        1,
        lambda _: None,
        clients=asked.clients,
        values=asked.values,
        variants=(asked.variant,),
        dropouts=(asked.percent,),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
