"""The report: one HTML page that needs nothing else, and tables for the terminal."""

import base64
from html import escape
from pathlib import Path
from statistics import fmean
from string import Template

from rich.console import Console

from finsecure_cli.convert import Document
from finsecure_cli.demo.comparison import ModeFigures, comparison_cells
from finsecure_cli.demo.figures import (
    RoundFigures,
    attendance,
    auc_by_round,
    completed_rounds,
)
from finsecure_cli.demo.scenario import Findings
from finsecure_cli.output import size, table

_PAGE = Path(__file__).with_name("page.html")
_LEAD = {
    "masks": "Only masked updates left it; the aggregator saw nothing but their sum.",
    "encryption": (
        "Only encrypted updates left it; two of three trustees opened their sum and nothing else."
    ),
}
_PROTECTED = {
    "masks": (
        "Updates, sample counts, losses and scores leave a bank only under masks that cancel in "
        "the sum. Even an aggregator that lies, together with fewer than a third of the banks, "
        "learns no more than the sum over the banks that took part."
    ),
    "encryption": (
        "Updates, sample counts, losses and scores leave a bank only encrypted. Even an aggregator "
        "that lies, together with one trustee, learns no more than the sum over the banks that "
        "took part; with two trustees it could open each bank's update."
    ),
}
_MARKS = {"summed": "●", "dropped": "✕", "absent": "○"}


def write_page(out: Path, findings: Findings, picture: Path, runs: dict[str, ModeFigures]) -> None:
    """Write the page with the picture inside, and the modes that were run beside each other."""
    rounds = completed_rounds(findings.rounds)
    scores = findings.scores
    federated = auc_by_round(rounds, scores["federated_auc"])
    local = [bank["local_auc"] for bank in scores["banks"].values()]
    training = [item for item in rounds if item.number]
    sent = [count for item in training for count in item.received.values()]
    page = Template(_PAGE.read_text()).substitute(
        picture=base64.b64encode(picture.read_bytes()).decode(),
        local=f"{fmean(local):.3f}",
        local_range=f"{min(local):.3f} to {max(local):.3f}",
        central=f"{scores['central_auc']:.3f}",
        federated=f"{federated[-1][1]:.3f}",
        rounds=len(training),
        banks=len(scores["banks"]),
        test_loans=f"{scores['test_loans']:,}",
        seconds=f"{fmean(item.seconds for item in training):.1f}",
        sent=size(fmean(sent)),
        outage=_outage(findings, rounds),
        lead=_LEAD["masks" if findings.mode == "masks" else "encryption"],
        protected=_PROTECTED["masks" if findings.mode == "masks" else "encryption"],
        mode=findings.mode,
        mode_rows=_rows(list(comparison_cells(runs))),
        bank_rows=_rows(_bank_cells(scores)),
        attendance_head="".join(f"<th>{item.number}</th>" for item in rounds),
        attendance_rows=_attendance(list(scores["banks"]), rounds),
        round_rows=_rows(_round_cells(rounds, dict(federated))),
        client_head="".join(f"<th>{escape(bank)}</th>" for bank in scores["banks"]),
        client_rows=_rows(_client_cells(list(scores["banks"]), rounds)),
        egress_rows=_rows(_egress_cells(findings.egress)),
        egress_total=f"{findings.egress['fields']:,} fields, {size(findings.egress['bytes'])}",
        event_rows=_rows([(f"{at:.1f} s", words) for at, words in findings.events]),
    )
    out.write_text(page)


def print_tables(console: Console, findings: Findings, runs: dict[str, ModeFigures]) -> None:
    """Print what the page shows."""
    rounds = completed_rounds(findings.rounds)
    scores = findings.scores
    federated = auc_by_round(rounds, scores["federated_auc"])
    local = fmean(bank["local_auc"] for bank in scores["banks"].values())
    header = ("round", "test AUC", "summed", "gone", "seconds", "bytes a bank")
    by_round = dict(federated)
    console.print(
        table(
            header,
            [
                (
                    item.number,
                    f"{by_round[item.number]:.3f}" if item.number in by_round else "statistics",
                    len(item.summed),
                    ", ".join(item.dropped) or ", ".join(sorted(_absent(item, scores))),
                    f"{item.seconds:.2f}",
                    size(fmean(item.received.values())) if item.received else "",
                )
                for item in rounds
            ],
            title="Rounds",
        )
    )
    console.print()
    console.print(table(("bank", "loans", "bad", "AUC alone"), _bank_cells(scores), title="Banks"))
    console.print()
    console.print(
        table(
            ("call", "what", "fields", "size"),
            _egress_cells(findings.egress),
            title="What left bank-a (finsecure client egress)",
        )
    )
    console.print()
    console.print(
        table(
            ("mode", "test AUC", "bytes a bank", "seconds a round", "who could see what"),
            comparison_cells(runs),
            title="Modes, as last run here",
        )
    )
    console.print(
        f"\n[bold]ROC AUC on {scores['test_loans']:,} loans nobody trained on:[/bold] "
        f"banks alone {local:.3f} (mean), all data in one place {scores['central_auc']:.3f}, "
        f"[bold]federated {federated[-1][1]:.3f}[/bold]"
    )


def _absent(item: RoundFigures, scores: Document) -> set[str]:
    return set(scores["banks"]) - set(item.invited)


def _outage(findings: Findings, rounds: list[RoundFigures]) -> str:
    for item in rounds:
        if findings.missed_round.endswith(f"/{item.number}-{item.attempt}"):
            gone = ", ".join(item.dropped)
            return (
                f"In round {item.number} the process of {escape(gone)} was killed (SIGKILL) while "
                f"the others were submitting. The round completed with the other "
                f"{len(item.summed)}, without starting over"
                + (
                    ": they revealed just enough to take the lost bank's masks off the sum, and "
                    "nothing else."
                    if findings.mode == "masks"
                    else "; under encryption nobody has to do anything for that."
                )
            )
    return "No bank was lost on the way."


def _rows(cells: list[tuple[str, ...]]) -> str:
    return "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells
    )


def _bank_cells(scores: Document) -> list[tuple[str, ...]]:
    return [
        (bank, f"{item['loans']:,}", f"{item['default_rate']:.1%}", f"{item['local_auc']:.3f}")
        for bank, item in scores["banks"].items()
    ]


def _attendance(banks: list[str], rounds: list[RoundFigures]) -> str:
    rows = []
    for bank in banks:
        states = [attendance(item, bank) for item in rounds]
        cells = "".join(f'<td class="{s}" title="{s}">{_MARKS[s]}</td>' for s in states)
        rows.append(f"<tr><th>{escape(bank)}</th>{cells}</tr>")
    return "\n".join(rows)


def _round_cells(rounds: list[RoundFigures], auc: dict[int, float]) -> list[tuple[str, ...]]:
    return [
        (
            str(item.number),
            f"{auc[item.number]:.3f}" if item.number in auc else "statistics",
            "" if item.loss is None else f"{item.loss:.4f}",
            "" if item.auc is None else f"{item.auc:.3f}",
            f"{len(item.summed)} of {len(item.invited)}",
            f"{item.seconds:.2f}",
            size(sum(item.received.values())),
        )
        for item in rounds
    ]


def _client_cells(banks: list[str], rounds: list[RoundFigures]) -> list[tuple[str, ...]]:
    return [
        (
            str(item.number),
            f"{item.seconds:.2f}",
            *(size(item.received[bank]) if bank in item.received else "" for bank in banks),
        )
        for item in rounds
    ]


def _egress_cells(egress: Document) -> list[tuple[str, ...]]:
    return [
        (total["method"], total["kind"], f"{total['fields']:,}", size(total["bytes"]))
        for total in egress["totals"]
    ]
