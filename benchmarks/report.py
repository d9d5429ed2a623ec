"""What becomes of the figures: results.json, which keeps all, and docs/benchmarks.md from it.

A figure stays in results.json until it is measured again, so sets can be run one by one;
`measured` says when each was.
"""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cryptography.hazmat.backends.openssl import backend

from benchmarks import page, raw
from benchmarks.figures import Figures

_ROOT = Path(__file__).resolve().parent.parent
RESULTS = _ROOT / "benchmarks" / "results.json"
PAGE = _ROOT / "docs" / "benchmarks.md"
_PACKAGES = ("cryptography", "numpy", "grpcio", "protobuf")


def record(figures: Figures, path: Path = RESULTS) -> None:
    """Merges figures into results.json, with the machine and the versions of this run."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    kept = load(path)["figures"] if path.exists() else {}
    kept |= {key: {**figure.to_json(), "measured": now} for key, figure in figures.items()}
    results = {
        "machine": _machine(),
        "versions": _versions(),
        "figures": dict(sorted(kept.items())),
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    temporary.replace(path)


def load(path: Path = RESULTS) -> dict[str, Any]:
    """Reads results.json."""
    results: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return results


def write_page(results: Path = RESULTS, target: Path = PAGE) -> None:
    """Writes docs/benchmarks.md and its pictures anew from results.json."""
    images = target.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    target.write_text(page.render(load(results), images), "utf-8")


def _machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text("utf-8").splitlines()
        cpu = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "openssl command": raw.openssl_version(),
        "openssl of cryptography": backend.openssl_version_text(),
        **{package: version(package) for package in _PACKAGES},
    }
