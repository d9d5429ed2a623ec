"""The operator's guide lists every key that there is; what is new has to be put in."""

import ast
import re
from pathlib import Path

from finsecure.keyservice.v1 import keys_pb2
from finsecure_crypto.certificates import Purpose
from finsecure_crypto.homomorphic.mode import Mode

from tests.support.documents import OPERATIONS, ROOT, drills

TABLE = OPERATIONS.read_text().partition("## Every key, and how it is rotated")[2].split("\n## ")[0]
LISTED = set(re.findall(r"`([^`]+)`", TABLE))

# What is hashed, signed or bound without a key of its own.
NO_KEYS = {
    *("vector-layout", "task", "ceremony", "ceremony-input", "card", "manifest", "contribution"),
    *("encrypted-context", "encrypted-input-binding", "decryption-request", "lattice-common"),
    *("encryption-key-state", "encryption-key", "lattice-smudging", "lattice-uniform", "sum"),
    *("paillier-plaintexts", "paillier-plaintext-challenges", "paillier-partials"),
    *("paillier-partial", "paillier-batch-weights", "model-architecture", "masking-graph"),
    *("self-mask-commitment", "shares", "context", "roster-entry", "roster", "session"),
    *("approved-request", "enrolment-requests", "minimum-cohorts"),
}


def _sources() -> list[Path]:
    return [
        path
        for folder in ("crypto", "services")
        for path in (ROOT / folder).rglob("*.py")
        if "build" not in path.parts
    ]


def _labels() -> set[str]:
    """Labels of transcripts in the sources; those of messages and statements are no keys."""
    found = set()
    for path in _sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            label = node.args[0]
            if name in {"encode", "digest"} and isinstance(label, ast.Constant):
                found.add(str(label.value))
    return {label for label in found - {"ascii", "utf-8"} if not label.startswith("message/")}


def _key_files() -> set[str]:
    found: set[str] = set()
    for path in _sources():
        found |= set(re.findall(r'"([a-z-]+\.(?:key|secret|pepper))"', path.read_text()))
    return found


def test_every_label_is_that_of_a_key_in_the_table_or_of_no_key() -> None:
    labels = _labels()
    assert len(labels) > 40
    assert not labels - NO_KEYS - LISTED
    assert not NO_KEYS - labels, "no longer there"
    assert not NO_KEYS & LISTED


def test_every_purpose_and_every_key_file_is_in_the_table() -> None:
    purposes = {
        name.lower().removeprefix("key_purpose_")
        for name in keys_pb2.KeyPurpose.DESCRIPTOR.values_by_name
    }
    certificates, modes = {purpose.value for purpose in Purpose}, {mode.value for mode in Mode}
    assert certificates | modes | purposes - {"unspecified"} <= LISTED
    assert len(_key_files()) >= 5
    assert _key_files() <= LISTED


def test_every_drill_of_the_table_and_of_the_guide_is_run_by_a_test() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests/integration").rglob("*.py"))
    named = set(drills(OPERATIONS))
    assert {drill for drill in named if f'"{drill}"' not in tests} == set()
    rows = [row for row in TABLE.splitlines() if "●" in row and row.startswith("|")]
    assert all(set(re.findall(r"`([a-z-]+)`", row.split("|")[4])) & named for row in rows)
