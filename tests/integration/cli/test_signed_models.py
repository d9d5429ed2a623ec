"""The drills of the operator's guide for models: signed, rotated, stolen, altered on the disk."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.integration.cli.conftest import Run, prepared

EXAMPLE = Path(__file__).parents[3] / "examples" / "lending_club"
KEY = "federations/lending/keyRings/models/cryptoKeys/global"
pytestmark = pytest.mark.slow


@pytest.fixture
def federation(tmp_path: Path, finsecure: Run) -> Iterator[tuple[Run, Path]]:
    """An operator's command line and the folder of a federation whose models have to be signed."""
    up = prepared(tmp_path / "lending", finsecure)
    for name in ("aggregator.toml", "operator.toml"):
        path = up.folder / name
        path.write_text(f'model_key = "{KEY}"\n{path.read_text()}')
    config = str(up.folder / "operator.toml")
    up.start()
    try:
        yield lambda *words: finsecure(*words, FINSECURE_CONFIG=config, timeout=110), up.folder
    finally:
        up.stop()


def _states(operator: Run) -> list[str]:
    found = json.loads(operator("keys", "list", "models/global", "--json").stdout)
    return [version["state"] for version in found]


def _until(operator: Run, states: list[str]) -> None:
    end = time.monotonic() + 120
    while _states(operator) != states:
        assert time.monotonic() < end, _states(operator)


def test_models_are_signed_by_a_managed_key_through_rotation_theft_and_damage(
    federation: tuple[Run, Path], tmp_path: Path
) -> None:
    operator, folder = federation
    assert operator("keys", "ring", "models").returncode == 0
    assert operator("keys", "create", "models/global").returncode == 0
    _until(operator, ["enabled"])
    (tmp_path / "task.toml").write_text((EXAMPLE / "task.toml").read_text())
    initial = tmp_path / "initial.safetensors"
    initial.write_bytes(safetensors.numpy.save({"w": np.ones((1, 34), np.float32)}))
    made = operator("task", "create", str(tmp_path / "task.toml"), "--model", str(initial))
    assert made.returncode == 0, made.stderr

    def download(name: str) -> Path:
        got = operator("model", "download", "credit-default", "--out", str(tmp_path / name))
        assert got.returncode == 0, got.stderr
        return tmp_path / name / "credit-default-0.safetensors"

    first = download("first")
    assert json.loads(first.with_suffix(".json").read_text())["envelope"]

    assert operator("keys", "rotate", "models/global").returncode == 0
    _until(operator, ["deactivated", "enabled"])
    assert operator("model", "verify", str(first)).returncode == 0

    stolen = ("keys", "set", "models/global", "compromise", "--version", "1", "--reason", "drill")
    assert operator(*stolen).returncode == 0
    assert "[KEY_STATE]" in operator("model", "verify", str(first)).stderr
    assert operator("model", "recheck", "credit-default").returncode == 0
    second = download("second")
    assert operator("model", "verify", str(second)).returncode == 0

    description = json.loads(second.with_suffix(".json").read_text())
    second.with_suffix(".json").write_text(json.dumps({**description, "envelope": ""}))
    assert "[ENVELOPE_MISSING]" in operator("model", "verify", str(second)).stderr

    (stored,) = (folder / "aggregator" / "blobs").rglob("0.safetensors")
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "[MODEL_QUARANTINED]" in operator("model", "recheck", "credit-default").stderr
    refused = operator("model", "download", "credit-default", "--out", str(tmp_path / "third"))
    assert "[MODEL_QUARANTINED]" in refused.stderr
    stored.write_bytes(whole)
    assert operator("model", "recheck", "credit-default").returncode == 0
    download("fourth")
    signed = operator("audit", "tail", "-n", "500", "--json").stdout
    assert signed.count('"model.sign"') >= 2
