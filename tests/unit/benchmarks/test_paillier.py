"""The Paillier set measures all that the page shows of it, on sums that come out right."""

from pathlib import Path

import pytest

from benchmarks import page, paillier, report
from tests.support.paillier import dealt


def test_every_figure_of_the_page_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paillier, "deal", dealt)
    monkeypatch.setattr(paillier, "WINDOW", 2)
    monkeypatch.setattr(paillier, "REPEATED", 2)
    figures = paillier.measure(1, lambda _: None, ciphertexts=2, opened=1, proven=1000)
    results = tmp_path / "results.json"
    report.record(figures, results)
    table = page._paillier(report.load(results)["figures"])
    assert len(table.splitlines()) == 15
    assert "n/a" not in table
    assert figures["paillier_two_core_speedup"].median > 0
    # 31 words of two lanes in 512 bytes, 47 in 768.
    assert figures["paillier_2048_bytes_per_value"].median == pytest.approx(512 / 62)
    assert figures["paillier_3072_bytes_per_value.32"].median == pytest.approx(768 / 141)


def test_the_published_results_have_every_figure() -> None:
    published = report.load()["figures"]
    assert {
        "paillier_2048_values_per_s",
        "paillier_3072_values_per_s",
        "paillier_two_core_speedup",
        "paillier_2048_phe_values_per_s",
        "paillier_2048_naive_values_per_s",
    } <= published.keys()
    ours, theirs = (
        published[f"paillier_2048_{name}values_per_s"]["median"] for name in ("", "phe_")
    )
    assert ours / theirs > 1000
