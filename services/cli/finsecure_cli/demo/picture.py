"""The demonstration's picture: AUC by round, who was in each round, seconds and bytes."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from finsecure_cli.convert import Document
from finsecure_cli.demo.figures import RoundFigures, attendance, auc_by_round

INK = "#1c2430"
FAINT = "#8a94a3"
GRID = "#e4e8ee"
FEDERATED = "#0b6e6e"
CENTRAL = "#7a4fbf"
GONE = "#c8382d"
PHASE_COLOURS = {
    "advertise_keys": "#b9d9d6",
    "share_keys": "#7dbdb8",
    "submit_input": "#0b6e6e",
    "confirm_survivors": "#e3b45c",
    "reveal_shares": "#c98a2b",
    "unmasking": "#7a4fbf",
    "opening": "#c98a2b",
}


def draw(out: Path, scores: Document, rounds: list[RoundFigures]) -> None:
    """Draw the picture as a PNG file."""
    style: dict[Any, Any] = {
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(11, 9.6), dpi=150, layout="constrained")
        top, middle, bottom = figure.subplots(3, 1, height_ratios=[3.4, 1.5, 1.5])
        banks = list(scores["banks"])
        _draw_auc(top, scores, rounds)
        _draw_attendance(middle, banks, rounds)
        _draw_seconds(bottom, rounds)
        last = rounds[-1].number
        for axes in (top, middle, bottom):
            axes.set_xlim(-0.7, last + (3.4 if last > 10 else 1.2))
            axes.set_xticks(range(0, last + 1, max(1, last // 10)))
            axes.set_axisbelow(True)
        figure.savefig(out, facecolor="white")


def _title(axes: Axes, bold: str, rest: str) -> None:
    axes.set_title(bold, loc="left", fontweight="bold", fontsize=12, pad=22)
    axes.annotate(
        rest,
        (0, 1),
        xytext=(0, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        color=FAINT,
        fontsize=9.5,
    )


def _draw_auc(axes: Axes, scores: Document, rounds: list[RoundFigures]) -> None:
    _title(
        axes,
        "One model that no bank could train alone",
        f"ROC AUC on {scores['test_loans']:,} loans that no bank trained on "
        f"({scores['test_default_rate']:.1%} defaulted)",
    )
    federated = auc_by_round(rounds, scores["federated_auc"])
    numbers = [number for number, _ in federated]
    values = [value for _, value in federated]
    end = numbers[-1]
    marks = [
        (values[-1], "federated", FEDERATED, "bold"),
        (scores["central_auc"], "all data in one place", CENTRAL, "normal"),
    ]
    marks += [
        (figures["local_auc"], f"{bank} alone", FAINT, "normal")
        for bank, figures in scores["banks"].items()
    ]
    for value, _, colour, _ in marks[1:]:
        axes.plot([0, end], [value, value], color=colour, linewidth=1.1, linestyle=(0, (4, 3)))
    axes.plot(numbers, values, color=FEDERATED, linewidth=2.6, marker="o", markersize=4.5)
    low, high = min(v for v, *_ in marks), max(max(values), scores["central_auc"])
    low = min(low, *values[1:]) if len(values) > 1 else low
    axes.set_ylim(low - 0.015, high + 0.015)
    _labels(axes, end, marks)
    for item in rounds:
        if item.dropped and item.number in numbers:
            value = values[numbers.index(item.number)]
            axes.annotate(
                f"{', '.join(item.dropped)} killed mid-round;\nthe round completes",
                (item.number, value),
                xytext=(0, -52),
                textcoords="offset points",
                ha="center",
                color=GONE,
                fontsize=9,
                arrowprops={"arrowstyle": "-", "color": GONE, "shrinkB": 4},
            )
    axes.grid(axis="y", color=GRID)
    axes.set_ylabel("ROC AUC")


def _labels(axes: Axes, at: float, marks: list[tuple[float, str, str, str]]) -> None:
    """Write labels right of the lines, moved apart where they would overlap."""
    bottom, top = axes.get_ylim()
    gap = (top - bottom) * 0.052
    placed: list[float] = []
    for value, text, colour, weight in sorted(marks):
        place = max(value, placed[-1] + gap) if placed else max(value, bottom + gap / 2)
        placed.append(place)
        axes.annotate(
            f"{value:.3f}  {text}",
            (at, value),
            xytext=(at + 0.45, place),
            color=colour,
            fontweight=weight,
            fontsize=9.5,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": GRID, "shrinkA": 0, "shrinkB": 2},
        )


def _draw_attendance(axes: Axes, banks: list[str], rounds: list[RoundFigures]) -> None:
    _title(
        axes,
        "Who was in each round",
        "filled: in the sum;  cross: gone mid-round;  empty: not there when it began",
    )
    for row, bank in enumerate(reversed(banks)):
        for item in rounds:
            state = attendance(item, bank)
            if state == "summed":
                axes.plot(item.number, row, "o", color=FEDERATED, markersize=8)
            elif state == "dropped":
                axes.plot(item.number, row, "X", color=GONE, markersize=9)
            else:
                axes.plot(item.number, row, "o", color="white", markeredgecolor=FAINT, markersize=8)
    axes.set_yticks(range(len(banks)), list(reversed(banks)))
    axes.set_ylim(-0.6, len(banks) - 0.4)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _draw_seconds(axes: Axes, rounds: list[RoundFigures]) -> None:
    sent = [size for item in rounds if item.number for size in item.received.values()]
    mean = sum(sent) / len(sent) if sent else 0
    _title(
        axes,
        "Seconds per round",
        f"by phase; each bank sends {mean / 1000:.1f} kB a round.  Round 0 adds up means and "
        "variances, round 1 loads PyTorch; a bank that is gone is waited for",
    )
    bottoms = [0.0] * len(rounds)
    seen = {phase for item in rounds for phase in item.phase_seconds}
    for phase, colour in PHASE_COLOURS.items():
        if phase not in seen:
            continue
        heights = [item.phase_seconds.get(phase, 0.0) for item in rounds]
        axes.bar(
            [item.number for item in rounds],
            heights,
            bottom=bottoms,
            width=0.72,
            color=colour,
            label=phase.replace("_", " "),
        )
        bottoms = [low + height for low, height in zip(bottoms, heights, strict=True)]
    axes.grid(axis="y", color=GRID)
    axes.set_xlabel("round")
    axes.set_ylabel("s")
    axes.legend(frameon=False, fontsize=8.5, ncols=1, loc="upper right", borderaxespad=0)
