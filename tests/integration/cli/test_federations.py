"""What takes two, by commands: a minimum cohort is lowered, a trustee is registered."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from finsecure_cli.processes import command_path

from tests.integration.cli.conftest import Run, Up

EXAMPLE = Path(__file__).parents[3] / "examples" / "lending_club"
pytestmark = pytest.mark.slow  # some thirty processes
Person = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def person(up: Up, finsecure: Run) -> Callable[[str], Person]:
    """Gives the command line of the operator, or of a security officer who is made on the way."""

    def of(name: str) -> Person:
        config = up.folder / f"{name}.toml"
        if not config.exists():
            text = (up.folder / "operator.toml").read_text()
            config.write_text(text.replace('identity_dir = "operator"', f'identity_dir = "{name}"'))
            key = up.folder / f"{name}.key"
            command = [command_path("finsecure-keyservice"), "operator-key", "--role", "officer"]
            command += ["--config", str(up.folder / "keyservice.toml"), "--operator", name]
            subprocess.run([*command, "--output", str(key)], check=True, capture_output=True)
            enrolled = finsecure(
                *("operator", "enrol", "--api-key-file", str(key)), FINSECURE_CONFIG=str(config)
            )
            assert enrolled.returncode == 0, enrolled.stderr

        return lambda *arguments: finsecure(*arguments, FINSECURE_CONFIG=str(config))

    return of


def agreed(person: Callable[[str], Person], *act: str) -> str:
    """Let two officers do what an operator may not, and return what it prints."""
    alone = person("operator")(*act)
    assert (alone.returncode, "[ROLE_NOT_ALLOWED]" in alone.stderr) == (3, True), alone.stderr
    carol, dave = person("carol"), person("dave")
    proposed = carol(*act)
    assert "[APPROVAL_REQUIRED]" in proposed.stderr
    found = re.search(r"finsecure approval approve (\w+)", proposed.stderr)
    assert found is not None, proposed.stderr
    approve = ("approval", "approve", found[1])
    assert "[SELF_APPROVAL]" in carol(*approve).stderr
    assert "[APPROVAL_REQUIRED]" in carol(*act).stderr
    assert dave(*approve).returncode == 0
    done = carol(*act)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_raises_a_minimum_cohort_two_lower_it_and_the_aggregator_follows(
    person: Callable[[str], Person], tmp_path: Path
) -> None:
    operator = person("operator")
    first = json.loads(operator("federation", "show", "--json").stdout)
    # What `init` has pinned for two clients, proven by the log.
    assert (first["minimum_cohort"], first["minimum_sum_cohort"]) == (2, 50)
    assert first["published"]["caller"].endswith("/operator/admin")
    update = ("federation", "update", "lending", "--minimum-cohort")
    raised = operator(*update, "5", "--minimum-sum-cohort", "60", "--json")
    assert json.loads(raised.stdout)["minimum_cohort"] == 5, raised.stderr
    shown = operator("federation", "show", "lending").stdout
    assert "minimum cohort  5 clients of a round" in shown
    assert "60 members of an audited sum" in shown

    task, model = tmp_path / "task.toml", tmp_path / "initial.safetensors"
    task.write_text((EXAMPLE / "task.toml").read_text())  # of at least four clients
    model.write_bytes(safetensors.numpy.save({"w": np.ones((1, 34), np.float32)}))
    create = ("task", "create", str(task), "--model", str(model))
    assert "[COHORT_BELOW_FEDERATION_MINIMUM]" in operator(*create).stderr

    assert "minimum cohort  4 clients of a round" in agreed(person, *update, "4")
    made = operator(*create)
    assert made.returncode == 0, made.stderr
    assert operator("federation", "update", "lending").returncode == 2  # nothing to change


def test_a_federation_begins_with_what_it_is_told(person: Callable[[str], Person]) -> None:
    operator = person("operator")
    create = ("federation", "create", "cards", "--minimum-cohort", "7")
    assert operator(*create).returncode == 0
    cards = json.loads(operator("federation", "show", "cards", "--json").stdout)
    assert (cards["minimum_cohort"], cards["minimum_sum_cohort"]) == (7, 50)
    assert "7" in operator("federation", "list").stdout


def test_two_register_a_trustee(person: Callable[[str], Person]) -> None:
    assert agreed(person, "member", "add", "north", "--role", "trustee").startswith("fs_")
    assert agreed(person, "member", "key", "north", "--role", "trustee").startswith("fs_")
