"""The numbers of the report, read out of the rounds' documents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from finsecure_cli.convert import Document
from finsecure_cli.output import seconds_between
from finsecure_cli.rounds import summed


@dataclass(frozen=True)
class RoundFigures:
    """What the report shows of one completed round.

    Attributes:
        number: of the round; 0 is the statistics round.
        attempt: that completed.
        version: of the model that it made.
        invited: clients that it began with.
        summed: clients whose input is in the sum.
        dropped: clients that were invited and are not in the sum.
        seconds: from start to end.
        phase_seconds: by phase.
        received: bytes of accepted messages by client.
        loss: global validation loss of the model that the round started from.
        auc: global validation AUC of that model, from the summed histogram.
    """

    number: int
    attempt: int
    version: int
    invited: tuple[str, ...]
    summed: tuple[str, ...]
    dropped: tuple[str, ...]
    seconds: float
    phase_seconds: dict[str, float]
    received: dict[str, int]
    loss: float | None
    auc: float | None


def completed_rounds(rounds: list[Document]) -> list[RoundFigures]:
    """Return the figures of all completed rounds, in their order."""
    return [_figures(item) for item in rounds if item["state"] == "completed"]


def _figures(round_: Document) -> RoundFigures:
    there = set(summed(round_))
    metrics = round_.get("metrics", {})
    training = round_["kind"] == "training"
    phases = {
        phase["phase"]: seconds_between(phase, "open_time", "close_time") or 0.0
        for phase in round_["phases"]
    }
    return RoundFigures(
        number=round_["number"],
        attempt=round_["attempt"],
        version=int(round_["result_model"].rpartition("/")[2]),
        invited=tuple(sorted(round_["invited"])),
        summed=tuple(sorted(there)),
        dropped=tuple(sorted(set(round_["invited"]) - there)),
        seconds=seconds_between(round_, "start_time", "end_time") or 0.0,
        phase_seconds=phases,
        received={name: int(size) for name, size in round_["received_bytes"].items()},
        loss=metrics.get("loss") if training else None,
        auc=metrics.get("auc") if training else None,
    )


def attendance(item: RoundFigures, bank: str) -> Literal["summed", "dropped", "absent"]:
    """Return what a bank's part in a round was."""
    if bank in item.summed:
        return "summed"
    return "dropped" if bank in item.dropped else "absent"


def auc_by_round(
    rounds: list[RoundFigures], auc_by_version: Mapping[str, float]
) -> list[tuple[int, float]]:
    """Return (round, test AUC of the model that it made) for the training rounds."""
    return [
        (item.number, auc_by_version[str(item.version)])
        for item in rounds
        if item.number and str(item.version) in auc_by_version
    ]
