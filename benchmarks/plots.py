"""The two pictures of docs/benchmarks.md."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.rounds import DROPOUTS

mpl.use("Agg")
# So that the same figures give the same file.
mpl.rcParams["svg.hashsalt"] = "finsecure"
_SERIES = {
    "complete graph, active": "",
    "sparse graph, active": ".sparse.active",
    "sparse graph, semi-honest": ".sparse.semi_honest",
}
_PUBLISHED = (4.9, 180.9, 413.8)


def draw(figures: dict[str, dict[str, Any]], folder: Path) -> None:
    """Draws server time against drop-outs, and peak memory against clients."""
    _save(_rounds(figures), folder / "benchmark-rounds.svg")
    _save(_memory(figures), folder / "benchmark-memory.svg")


def _rounds(figures: dict[str, dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    axes.plot(DROPOUTS, _PUBLISHED, "k--", marker="o", label="Bonawitz 2017, without signatures")
    for label, suffix in _SERIES.items():
        entries = [figures.get(f"server_seconds.{percent}{suffix}") for percent in DROPOUTS]
        if all(entries):
            axes.plot(DROPOUTS, [e["median"] for e in entries if e], marker="o", label=label)
    axes.set(yscale="log", xlabel="clients gone after ShareKeys, %", ylabel="server CPU, s")
    axes.set_title("1000 clients, 100 000 values")
    axes.set_ylim(0.5, 9000)  # room for the legend
    axes.legend(fontsize="small", ncols=2, loc="upper center")
    return figure


def _memory(figures: dict[str, dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    lines: dict[int, list[tuple[int, float]]] = {}
    for key, entry in figures.items():
        name = key.removeprefix("server_peak_mb.")
        if name != key and name != "imports":
            clients, words = map(int, name.split("x"))
            lines.setdefault(words, []).append((clients, entry["median"]))
    for words, points in sorted(lines.items()):
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=f"{words * 8 / 1e6:.0f} MB")
    axes.set(xscale="log", xlabel="clients", ylabel="peak of the server's sum, MB", ylim=(0, None))
    if lines:
        axes.legend(title="vector", fontsize="small")
    return figure


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
