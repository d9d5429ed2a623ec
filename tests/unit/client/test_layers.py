"""Which module of the client may import what."""

import ast
from pathlib import Path

import finsecure_client

PACKAGE = Path(finsecure_client.__file__).parent


def importers(of: str) -> set[str]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(name == of or name.startswith(f"{of}.") for name in names):
                found.add(path.name)
    return found


def test_only_the_edges_know_the_wire() -> None:
    assert importers("finsecure") == {"convert.py", "transport.py"}
    assert importers("grpc") == set()


def test_only_its_trainer_knows_torch() -> None:
    assert importers("torch") == {"torch_trainer.py"}
    assert importers("pyarrow") == {"data.py"}
    assert importers("pickle") == set()
    assert importers("finsecure_client.torch_trainer") == {"config.py"}
    assert importers("finsecure_client.data") == {"config.py", "torch_trainer.py"}
