"""The back ends of the arithmetic are measured on the same work, and land on the page."""

from pathlib import Path

import pytest

from benchmarks import page, slices

TINY = {"words": 1001, "inputs": 2, "masks": 3}


def silent(_text: str) -> None:
    pass


def test_threads_and_processes(tmp_path: Path) -> None:
    figures = slices.measure(1, silent, **TINY, backends=("threads", "processes"))
    assert figures.keys() == {"slices_threads_s", "slices_processes_s"}
    entries = {key: figure.to_json() for key, figure in figures.items()}
    text = page.render({"figures": entries, "machine": MACHINE, "versions": {}}, tmp_path)
    for key, figure in figures.items():
        assert f"{figure.median:.3g}" in text, key


@pytest.mark.slow
def test_ray() -> None:
    figures = slices.measure(1, silent, **TINY)
    assert figures.keys() == {f"slices_{name}_s" for name in slices.BACKENDS}


MACHINE = {"cpu": "a CPU", "cores": 2, "memory_gb": 4, "system": "Linux"}
