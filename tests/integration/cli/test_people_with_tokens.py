"""Commands with a token of an OpenID provider in place of the operator's certificate."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Run, Up, prepared
from tests.support.oidc import ISSUER, Provider

OIDC = """
[oidc]
issuer = "{issuer}"
audience = "{audience}"
jwks_file = "{keys}"
roles = {{ fs-view = "viewer", fs-run = "operator" }}
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def provider() -> Provider:
    return Provider()


@pytest.fixture(scope="module")
def up(
    tmp_path_factory: pytest.TempPathFactory, finsecure: Run, provider: Provider
) -> Iterator[Up]:
    """A federation whose two services take tokens, each with an audience of its own."""
    running = prepared(tmp_path_factory.mktemp("federation") / "lending", finsecure)
    folder, address = running.folder, f"127.0.0.1:{_free_port()}"
    keys = provider.write(folder)

    def lines(audience: str) -> str:
        return OIDC.format(issuer=ISSUER, audience=audience, keys=keys)

    keyservice, aggregator = folder / "keyservice.toml", folder / "aggregator.toml"
    keyservice.write_text(keyservice.read_text() + lines("keyservice"))
    listen = f'operator_listen = "{address}"\n'
    aggregator.write_text(listen + aggregator.read_text() + lines("aggregator"))
    # Whoever has only a token has no identity folder.
    person = (folder / "operator.toml").read_text().replace('"operator"', '"nowhere"')
    (folder / "person.toml").write_text(person)
    (folder / "person-2.toml").write_text(f'aggregator_operators = "{address}"\n{person}')
    running.start()
    yield running
    running.stop()


def test_commands_take_a_token_of_the_service_that_they_call(
    up: Up, finsecure: Run, provider: Provider, tmp_path: Path
) -> None:
    tokens = {}
    for audience in ("keyservice", "aggregator"):
        tokens[audience] = tmp_path / audience
        tokens[audience].write_text(provider.token(aud=audience, roles="fs-run") + "\n")
    config = ("--config", str(up.folder / "person-2.toml"))

    def run(audience: str, *arguments: str) -> tuple[int, str]:
        done = finsecure("--token-file", str(tokens[audience]), *arguments, *config)
        assert tokens[audience].read_text().strip() not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    status, said = run("keyservice", "member", "list", "--json")
    assert status == 0, said
    assert [item["role"] for item in json.loads(said)] == ["aggregator"]
    assert run("aggregator", "task", "list", "--json") == (0, "[]\n")
    for audience, command, code in (
        ("keyservice", ("task", "list"), "TOKEN_AUDIENCE"),  # neither can use what it is shown
        ("aggregator", ("member", "list"), "TOKEN_AUDIENCE"),
        ("keyservice", ("key", "verify", "bgv-1"), "CERTIFICATE_NEEDED"),
    ):
        status, said = run(audience, *command)
        assert status in (2, 3)
        assert f"[{code}]" in said
    # The address for people has to be known, and the file has to hold a token.
    lost = finsecure(
        "task", "list", "--config", str(up.folder / "person.toml"),
        FINSECURE_TOKEN_FILE=str(tokens["aggregator"]),
    )  # fmt: skip
    assert "[ADDRESS_MISSING]" in lost.stderr
    wrong = finsecure("--token-file", str(up.folder / "root.pem"), "task", "list", *config)
    assert wrong.returncode == 2
    assert "[TOKEN_MISSING]" in wrong.stderr
