"""The lattice set measures all that the page shows of it, on sums that come out right."""

from pathlib import Path

from benchmarks import lattice, page, report


def test_every_figure_of_the_page_is_measured(tmp_path: Path) -> None:
    figures = lattice.measure(1, lambda _: None, values=9000, contributors=3)
    for key in [key for key in figures if "_9000_" in key]:
        figures[key.replace("_9000_", "_1m_")] = figures[key]
    results = tmp_path / "results.json"
    report.record(figures, results)
    table = page._lattice(report.load(results)["figures"])
    assert len(table.splitlines()) == 10
    assert "n/a" not in table
    assert figures["ckks_sum_error"].median < figures["ckks_error_bound"].median < 1e-6


def test_the_published_results_have_every_figure() -> None:
    published = report.load()["figures"]
    assert {
        "bgv_encrypt_1m_s",
        "bgv_open_1m_s",
        "bgv_bytes_per_value",
        "ckks_encrypt_1m_s",
        "ckks_bytes_per_value",
        "ckks_sum_error",
        "tenseal_bytes_per_value",
    } <= published.keys()
    assert published["bgv_bytes_per_value"]["median"] <= 24
    assert published["ckks_sum_error"]["median"] < 1e-6
    assert "n/a" not in page._lattice(published)
