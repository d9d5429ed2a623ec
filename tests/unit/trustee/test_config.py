"""The trustee's example configuration is complete, and its wrong values are refused."""

from pathlib import Path

import pytest
from finsecure_crypto.errors import ConfigurationError
from finsecure_keyservice.trustee.config import Configuration, Erasure, Openings
from finsecure_rpc.config import load

from tests.support.federation import ROOT

EXAMPLE = (ROOT / "services/keyservice/trustee/config.example.toml").read_text()


def _load(folder: Path, text: str) -> Configuration:
    (folder / "trustee.toml").write_text(text)
    return load(folder / "trustee.toml", Configuration)


def test_the_example_is_complete_and_says_the_defaults(tmp_path: Path) -> None:
    example = _load(tmp_path, EXAMPLE)
    for name, field in {
        **Configuration.model_fields,
        **Openings.model_fields,
        **Erasure.model_fields,
    }.items():
        assert name in EXAMPLE, f"{name} is not explained"
        if name in Configuration.model_fields and not field.is_required():
            assert getattr(example, name) == field.default, name
    for line in EXAMPLE.splitlines():
        assert line.startswith(("#", "[")) or not line or " = " in line
    assert example.protection.key_file == tmp_path / "trustee/wrapping.key"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "line",
    [
        "minimum_round_cohort = 1",
        "minimum_sum_cohort = 0",
        "decryptions_per_key = 0",
        "at_once = 0",
        "minimum_cohort = 3",
        "maximum_input_mib = 100000",
        "grace_d = -1",
        "grace_d = inf",
        "interval_s = 0",
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, line: str) -> None:
    key = line.split(" ")[0]
    kept = [old for old in EXAMPLE.splitlines() if not old.startswith(f"{key} =")]
    section = "[erasure]" if key in Erasure.model_fields else "[openings]"
    text = "\n".join(kept).replace(section, f"{section}\n{line}")
    with pytest.raises(ConfigurationError, match=key):
        _load(tmp_path, text)
