"""What the documents point to exists: files, and the tests that the threat model relies on."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "services/*/README.md",
        "deploy/*.md",
        "examples/*/*.md",
    )
    for path in ROOT.glob(pattern)
)
THREATS = (ROOT / "docs" / "threat-model.md").read_text()
DEFENCES = re.findall(
    r"^\| (?!threat |---)(.+?) \|", THREATS.partition("## Defences")[2], re.MULTILINE
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing


def test_there_is_something_to_check() -> None:
    assert {"README.md", "ARCHITECTURE.md", "threat-model.md"} <= {path.name for path in DOCUMENTS}
    assert len(DEFENCES) >= 15


@pytest.mark.parametrize("threat", DEFENCES)
def test_a_defence_names_tests_that_exist(threat: str) -> None:
    row = next(line for line in THREATS.splitlines() if line.startswith(f"| {threat} |"))
    named = re.findall(r"`(tests/[^`:]+\.py)(?:::(\w+))?`", row.split("|")[3])
    assert named
    for path, function in named:
        text = (ROOT / path).read_text()
        assert re.search(rf"^(async )?def {function or 'test_'}", text, re.MULTILINE), (
            path,
            function,
        )
