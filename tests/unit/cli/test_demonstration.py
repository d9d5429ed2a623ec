"""The parts of the demonstration that need no service: outage, figures, page, split."""

import importlib.util
import json
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from finsecure_cli.demo.comparison import comparison_cells, figures_of, newest_runs
from finsecure_cli.demo.figures import attendance, auc_by_round, completed_rounds
from finsecure_cli.demo.outage import Outage
from finsecure_cli.demo.report import write_page
from finsecure_cli.demo.scenario import Findings, fresh_folder
from finsecure_crypto.errors import ConfigurationError

BANKS = ["bank-a", "bank-b", "bank-c"]


class Daemon:
    """Stands in for the process of a bank's daemon."""

    name = "bank-b"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def kill(self) -> None:
        self.calls.append("kill")

    def start(self) -> None:
        self.calls.append("start")


def round_(
    number: int, state: str, summed: list[str] | None = None, invited: list[str] | None = None
) -> dict[str, Any]:
    phases = [
        {
            "phase": "submit_input",
            "open_time": "2026-01-01T00:00:01Z",
            "close_time": "2026-01-01T00:00:03.5Z",
            "clients": BANKS if summed is None else summed,
        }
    ]
    return {
        "name": f"federations/f1/tasks/t1/rounds/{number}-1",
        "number": number,
        "attempt": 1,
        "kind": "training" if number else "statistics",
        "state": state,
        "invited": BANKS if invited is None else invited,
        "phases": phases,
        "result_model": f"federations/f1/tasks/t1/models/{number + 1}",
        "start_time": "2026-01-01T00:00:00Z",
        "end_time": "2026-01-01T00:00:04Z",
        "received_bytes": dict.fromkeys(BANKS, 4321),
        "metrics": {"loss": 0.5, "auc": 0.71},
    }


@pytest.fixture
def outage() -> Outage:
    return Outage(Daemon(), 2, 2, lambda words: None)  # type: ignore[arg-type]


def test_bank_is_killed_once_and_comes_back_two_rounds_later(outage: Outage) -> None:
    daemon: Any = outage.process
    outage.see(round_(1, "submit_input"))
    outage.see(round_(2, "share_keys"))
    assert daemon.calls == []
    outage.see(round_(2, "submit_input"))
    outage.see(round_(2, "submit_input"))
    assert daemon.calls == ["kill"]
    outage.see(round_(2, "completed", ["bank-a", "bank-c"]))
    outage.see(round_(3, "submit_input", invited=["bank-a", "bank-c"]))
    assert daemon.calls == ["kill"]
    assert outage.missed.endswith("/2-1")
    outage.see(round_(4, "advertise_keys"))
    outage.see(round_(5, "submit_input"))
    assert daemon.calls == ["kill", "start"]


def test_bank_that_was_too_fast_is_killed_again(outage: Outage) -> None:
    daemon: Any = outage.process
    outage.see(round_(2, "submit_input"))
    outage.see(round_(2, "completed", BANKS))
    assert outage.missed == ""
    outage.see(round_(4, "submit_input", invited=["bank-a", "bank-c"]))
    assert daemon.calls == ["kill", "start"]
    outage.see(round_(6, "submit_input"))
    outage.see(round_(6, "completed", ["bank-a", "bank-c"]))
    assert daemon.calls == ["kill", "start", "kill"]
    assert outage.missed.endswith("/6-1")


def test_absent_bank_is_not_killed(outage: Outage) -> None:
    daemon: Any = outage.process
    outage.see(round_(2, "submit_input", invited=["bank-a", "bank-c"]))
    assert daemon.calls == []


def test_bank_that_a_round_cannot_spare_is_killed_in_the_next(outage: Outage) -> None:
    daemon: Any = outage.process
    outage.see(round_(2, "submit_input", invited=["bank-a", "bank-b"]))
    lost = round_(3, "submit_input")
    lost["phases"].insert(0, {"phase": "share_keys", "clients": ["bank-b", "bank-c"]})
    outage.see(lost)
    assert daemon.calls == []
    outage.see(round_(4, "submit_input"))
    assert daemon.calls == ["kill"]
    assert outage.killed_in.endswith("/4-1")


def findings() -> Findings:
    rounds = [
        round_(0, "completed"),
        round_(1, "aborted"),
        round_(1, "completed"),
        round_(2, "completed", ["bank-a", "bank-c"]),
        round_(3, "completed", ["bank-a", "bank-c"], ["bank-a", "bank-c"]),
    ]
    bank = {"loans": 1000, "default_rate": 0.05, "local_auc": 0.6}
    return Findings(
        task={"state": "completed"},
        rounds=rounds,
        scores={
            "test_loans": 2956,
            "test_default_rate": 0.052,
            "banks": dict.fromkeys(BANKS, bank),
            "central_auc": 0.75,
            "federated_auc": {"0": 0.5, "1": 0.5, "2": 0.70, "3": 0.73, "4": 0.74},
        },
        egress={
            "fields": 12,
            "bytes": 3456,
            "totals": [
                {"method": "SubmitInput", "kind": "masked <update>", "fields": 2,
                 "bytes": 3000}
            ],
        },
        events=[(0.5, "it began")],
        missed_round="federations/f1/tasks/t1/rounds/2-1",
        seconds={"training": 3.0},
    )  # fmt: skip


def test_figures_of_completed_rounds() -> None:
    rounds = completed_rounds(findings().rounds)
    assert [item.number for item in rounds] == [0, 1, 2, 3]
    assert rounds[2].dropped == ("bank-b",)
    assert rounds[2].seconds == 4.0
    assert rounds[2].phase_seconds == {"submit_input": 2.5}
    assert [attendance(item, "bank-b") for item in rounds] == [
        "summed", "summed", "dropped", "absent",
    ]  # fmt: skip
    assert rounds[0].loss is None
    assert auc_by_round(rounds, findings().scores["federated_auc"]) == [
        (1, 0.70), (2, 0.73), (3, 0.74),
    ]  # fmt: skip


def test_modes_are_compared_by_their_newest_runs(tmp_path: Path) -> None:
    for number, mode, auc in ((1, "bgv", 0.70), (2, "masks", 0.71), (10, "bgv", 0.73)):
        found = replace(findings(), mode=mode).as_document()
        found["scores"]["federated_auc"]["4"] = auc
        folder = tmp_path / "earlier" / str(number)
        folder.mkdir(parents=True)
        (folder / "findings.json").write_text(json.dumps(found))
    (tmp_path / "earlier" / "11").mkdir()  # of a run that failed
    now = replace(findings(), mode="paillier").as_document()
    (tmp_path / "findings.json").write_text(json.dumps(now))
    runs = newest_runs(tmp_path)
    assert {mode: run.auc for mode, run in runs.items()} == {
        "bgv": 0.73, "masks": 0.71, "paillier": 0.74,
    }  # fmt: skip
    rows = {row[0]: row[1:] for row in comparison_cells(runs)}
    assert rows["bgv"][0] == "0.730"
    assert rows["ckks"][:3] == ("", "make demo MODE=ckks", "")
    assert "two" in rows["paillier"][3]


def test_page_of_an_encrypted_run_says_what_that_means(tmp_path: Path) -> None:
    picture, page = tmp_path / "report.png", tmp_path / "report.html"
    picture.write_bytes(b"")
    write_page(page, replace(findings(), mode="bgv"), picture, {})
    assert "with two trustees it could open" in page.read_text()
    assert "masks that cancel" not in page.read_text()


def test_page_stands_alone_and_tells_all(tmp_path: Path) -> None:
    from finsecure_cli.demo.picture import draw

    found = findings()
    picture, page = tmp_path / "report.png", tmp_path / "report.html"
    draw(picture, found.scores, completed_rounds(found.rounds))
    write_page(page, found, picture, {"masks": figures_of(found.as_document())})
    text = page.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in text
    assert "0.740" in text
    assert "0.600" in text
    assert "masked &lt;update&gt;" in text
    assert "the process of bank-b was killed" in text
    assert text.count('class="dropped"') == 2  # the cell and the legend
    assert "$" not in text.replace("$.", "")
    for outside in ("http://", "https://", 'src="/', "href="):
        assert outside not in text
    for honest in ("no differential\nprivacy", "Credit default stands in for card fraud"):
        assert honest in text


class Balance(HTMLParser):
    """Checks that elements close in the order in which they open."""

    VOID = frozenset({"meta", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_well_formed_and_rows_are_complete(tmp_path: Path) -> None:
    picture, page = tmp_path / "report.png", tmp_path / "report.html"
    picture.write_bytes(b"")
    write_page(page, findings(), picture, {})
    parser = Balance()
    parser.feed(page.read_text())
    assert parser.open == []
    grid = page.read_text().partition('class="grid"')[2].partition("</table>")[0]
    rows = grid.split("<tr>")[1:]
    assert len(rows) == 1 + len(BANKS)
    assert {row.count("<t") for row in rows} == {5}


def test_earlier_demonstration_is_moved_aside(tmp_path: Path) -> None:
    fresh_folder(tmp_path / "out")
    (tmp_path / "out" / "federation").mkdir()
    (tmp_path / "out" / "report.html").write_text("first")
    fresh_folder(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["earlier"]
    assert (tmp_path / "out" / "earlier" / "1" / "report.html").read_text() == "first"


def test_foreign_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError) as raised:
        fresh_folder(tmp_path)
    assert raised.value.code == "OUT_OCCUPIED"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.fixture(scope="module")
def split() -> ModuleType:
    path = Path(__file__).parents[3] / "examples" / "lending_club" / "split.py"
    spec = importlib.util.spec_from_file_location("lending_club_split", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("by", "banks"), [("grade", 5), ("state", 8)])
def test_split_shares_every_loan_out_once(split: ModuleType, by: str, banks: int) -> None:
    loans = split.read()
    slices, test = split.split(loans, by, 0.3, seed=0)
    assert len(slices) == banks
    given = [id(loan) for part in (*slices.values(), test) for loan in part]
    assert Counter(given) == Counter(id(loan) for loan in loans)
    assert len(test) == pytest.approx(0.3 * len(loans), abs=10)
    again, _ = split.split(loans, by, 0.3, seed=0)
    assert again == slices


def test_banks_files_do_not_tell_the_bank(split: ModuleType, tmp_path: Path) -> None:
    split.write(tmp_path / "bank.csv", split.read()[:50])
    header = (tmp_path / "bank.csv").read_text().splitlines()[0].split(",")
    assert "Class" in header
    assert not {"sub_grade", "addr_state"} & set(header)
