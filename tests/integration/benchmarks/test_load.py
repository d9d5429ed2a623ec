"""A small load run: real aggregator process, real drivers, and the sum is checked."""

import io
import json

import pytest
from rich.console import Console

from benchmarks import load, load_figures, load_round
from benchmarks.load_round import Load, run


@pytest.fixture(scope="module")
def outcome():
    return load.watched(Load(20, 3000, kill=0.15), Console(quiet=True))


def test_a_round_with_killed_clients_has_the_exact_sum(outcome):
    # `run` itself compares the model with the plain sum; see below that it does.
    assert 17 <= outcome.survivors <= 20
    assert list(outcome.phases) == [
        "connect",
        "advertise_keys",
        "share_keys",
        "submit_input",
        "confirm_survivors",
        "reveal_shares",
        "unmasking",
    ]
    assert outcome.phases["advertise_keys"].answers == 20
    assert outcome.phases["reveal_shares"].answers == 17
    assert outcome.server_peak_mb >= outcome.server_idle_mb > 10
    assert all(sent > outcome.input_bytes for sent in outcome.sent)
    assert all(received > 0 for received in outcome.received)
    assert len(outcome.sent) == len(outcome.received) == 17


def test_it_is_shown_and_recorded(outcome):
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(load.table(outcome))
    assert "is exact" in console.export_text()
    figures = load_figures.of_round("100x100k", outcome)
    entries = {key: json.loads(json.dumps(figure.to_json())) for key, figure in figures.items()}
    head, rows = load_figures.rows(entries)
    assert head == ["clients x coordinates", "100x100k"]
    assert all(len(row) == 2 and "n/a" not in row[1] for row in rows)


def test_more_drop_outs_than_the_graph_is_made_for_are_refused():
    with pytest.raises(ValueError, match="withstand 3: kill fewer"):
        Load(20, 3000, kill=0.2)


async def test_a_wrong_sum_does_not_pass(monkeypatch):
    real = load_round.np.load

    def wrong(path):
        words = real(path)
        words[len(words) // 2] += 1
        return words

    monkeypatch.setattr(load_round.np, "load", wrong)
    with pytest.raises(AssertionError, match="not the plain one"):
        await run(Load(5, 100, drivers=1, sparse=None), lambda _: None)
