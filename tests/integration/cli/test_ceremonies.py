"""A federation with three trustees, as its operator sees it: two ceremonies, and their keys."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Run, Up


def free_ports(count: int) -> list[int]:
    """Free ports, the last three of them next to each other."""
    while True:
        sockets = [socket.socket() for _ in range(count)]
        try:
            for one in sockets[:-2]:
                one.bind(("127.0.0.1", 0))
            first = sockets[-3].getsockname()[1]
            sockets[-2].bind(("127.0.0.1", first + 1))
            sockets[-1].bind(("127.0.0.1", first + 2))
            return [one.getsockname()[1] for one in sockets]
        except (OSError, OverflowError):
            continue
        finally:
            for one in sockets:
                one.close()


@pytest.fixture(scope="module")
def lending(tmp_path_factory: pytest.TempPathFactory, finsecure: Run) -> Iterator[Path]:
    """A running federation with three trustees and no client."""
    folder = tmp_path_factory.mktemp("federation") / "lending"
    ports = list(map(str, free_ports(6)))
    made = finsecure(
        "init", str(folder), "--federation", "lending", "--clients", "bank-a,bank-b",
        "--keyservice-port", ports[0], "--enrol-port", ports[1], "--aggregator-port", ports[2],
        "--trustees", "3", "--trustee-port", ports[3],
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    running = Up(folder)
    running.start()
    yield folder
    running.stop()


@pytest.mark.slow
def test_trustees_make_a_key_and_a_dealer_another(lending: Path, finsecure: Run) -> None:
    def do(*arguments: str) -> str:
        done = finsecure(*arguments, timeout=110, FINSECURE_CONFIG=str(lending / "operator.toml"))
        assert done.returncode == 0, done.stderr
        return done.stdout

    made = json.loads(do("ceremony", "run", "bgv-1", "--mode", "bgv", "--json"))
    assert (made["generation"], made["holders"], made["threshold"]) == ("distributed", 3, 2)
    cards, dealt = lending / "cards.json", lending / "dealt.json"
    do("ceremony", "cards", "--out", str(cards))
    do(
        "ceremony", "deal", "paillier-1", "--federation", "lending", "--cards", str(cards),
        "--root", str(lending / "root.pem"), "--out", str(dealt),
    )  # fmt: skip
    imported = json.loads(do("ceremony", "import", str(dealt), "--json"))
    assert (imported["mode"], imported["generation"]) == ("paillier", "dealer")
    assert json.loads(do("ceremony", "import", str(dealt), "--json")) == imported
    listed = json.loads(do("key", "list", "--json"))
    assert {item["name"].rpartition("/")[2]: item["state"] for item in listed} == {
        "bgv-1": "enabled",
        "paillier-1": "enabled",
    }
    verified = json.loads(do("key", "verify", "bgv-1", "--json"))
    assert verified["trustees"] == ["trustee-1", "trustee-2", "trustee-3"]
    assert verified["digest"] == made["digest"]
    shown = do("key", "show", "paillier-1")
    assert "a dealer" in shown
    assert "trustee-3" in shown
    do("key", "state", "bgv-1", "compromised", "--reason", "only a test")
    assert json.loads(do("key", "show", "bgv-1", "--json"))["state"] == "compromised"
    refused = finsecure(
        "key", "state", "bgv-1", "enabled", "--reason", "regret",
        FINSECURE_CONFIG=str(lending / "operator.toml"),
    )  # fmt: skip
    assert "KEY_STATE" in refused.stderr
    taken = finsecure(
        "ceremony", "run", "bgv-1", "--mode", "ckks",
        FINSECURE_CONFIG=str(lending / "operator.toml"),
    )  # fmt: skip
    assert "KEY_EXISTS" in taken.stderr
    logged = json.loads(do("audit", "verify", "--trustee", "trustee-1", "--json"))
    assert logged["verified"] is True
    tail = do("audit", "tail", "-n", "100", "--trustee", "trustee-1", "--json")
    actions = [json.loads(line)["action"] for line in tail.splitlines()]
    assert actions[1:4] == ["sealing-key.make", "ceremony.join", "share.keep"]
    assert actions[-1] == "call.refuse"
    export = lending / "trustee-1.jsonl"
    do("audit", "export", str(export), "--trustee", "trustee-1")
    do("audit", "verify", "--file", str(export), "--trustee", "trustee-1")
    unknown = finsecure(
        "audit", "tail", "--trustee", "nobody", FINSECURE_CONFIG=str(lending / "operator.toml")
    )
    assert "TRUSTEE_UNKNOWN" in unknown.stderr
