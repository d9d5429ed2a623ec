"""The live view of a running task."""

import time

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from finsecure_cli.convert import Document
from finsecure_cli.output import seconds_between, short_name, size, table
from finsecure_cli.rounds import ROUND_ENDS, course, summed

_SHOWN_ROUNDS = 8


def _present(round_: Document) -> int:
    """Count the clients that answered the last phase to close; at first, all that were invited."""
    closed = [phase["clients"] for phase in round_["phases"] if "close_time" in phase]
    return len(closed[-1] if closed else round_["invited"])


class TaskProgress:
    """What a task has done so far, as a rich renderable.

    Attributes:
        state: the task's state, empty before the first update.
        note: a line of the caller's own.
    """

    def __init__(self) -> None:
        self.state = ""
        self.note = ""
        self._task: Document | None = None
        self._round: Document | None = None
        self._ended: dict[str, Document] = {}
        self._start = time.monotonic()

    def update(self, task: Document, round_: Document | None) -> None:
        """Take in a change."""
        self.state = task["state"]
        self._task = task
        self._round = round_
        if round_ is not None and round_["state"] in ROUND_ENDS:
            self._ended[round_["name"]] = round_

    def __rich__(self) -> RenderableType:
        """Render the newest state."""
        if self._task is None:
            return Text("waiting for the aggregator …", style="dim")
        return Group(self._headline(self._task), self._phase(), self._table(), Text(self.note))

    def _headline(self, task: Document) -> Table:
        done, rounds = task["completed_rounds"], task["spec"]["rounds"]
        line = Table.grid(padding=(0, 2))
        line.add_row(
            Text(short_name(task), style="bold"),
            ProgressBar(total=rounds, completed=done, width=30),
            f"{done}/{rounds} rounds",
            f"{task['state'].replace('_', ' ')}",
            f"{time.monotonic() - self._start:.0f} s",
        )
        return line

    def _phase(self) -> RenderableType:
        round_ = self._round
        phases = course(round_) if round_ is not None else ()
        if round_ is None or round_["state"] not in phases:
            detail = (self._task or {}).get("state_detail", "")
            return Text(detail or "between rounds", style="dim")
        at = phases.index(round_["state"])
        marks = Text("●" * (at + 1), style="cyan") + Text("○" * (len(phases) - at - 1), "dim")
        words = f" round {short_name(round_)}: {round_['state'].replace('_', ' ')}, "
        return marks + Text(f"{words}{_present(round_)} of {len(round_['invited'])} clients there")

    def _table(self) -> RenderableType:
        rows = []
        for item in list(self._ended.values())[-_SHOWN_ROUNDS:]:
            metrics = item.get("metrics", {})
            training = item["kind"] == "training"
            rows.append(
                (
                    short_name(item),
                    item["kind"],
                    item["abort_reason"] or f"{len(summed(item))} of {len(item['invited'])} summed",
                    metrics.get("loss") if training else None,
                    metrics.get("auc"),
                    seconds_between(item, "start_time", "end_time"),
                    size(sum(item["received_bytes"].values())),
                )
            )
        if not rows:
            return Text("")
        return table(("round", "kind", "result", "loss", "AUC", "seconds", "received"), rows)
