"""The search for leaked secrets finds each form of each kind, and nothing where there is none."""

import base64
from pathlib import Path

import pytest
from finsecure_keyservice.admission_keys import ApiKey
from finsecure_rpc.requests import new_keys

from tests.support.leaks import leaks, secrets_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    keys = new_keys()
    (tmp_path / "tls.key").write_bytes(keys.tls_key_pem.expose())
    (tmp_path / "bank.api-key").write_text(ApiKey.generate(lambda n: bytes(range(n))).expose())
    (tmp_path / "api-key.pepper").write_bytes(bytes(range(100, 132)))
    (tmp_path / "service.log").write_text("nothing")
    return tmp_path


def test_nothing_is_found_where_nothing_is(run: Path) -> None:
    secrets = secrets_of(run)
    assert len(secrets) == 6 + 5 + 5
    assert leaks(run, secrets, "a line", "") == []


def test_every_form_of_every_secret_is_found(run: Path) -> None:
    secrets = secrets_of(run)
    for what, secret in secrets.items():
        (run / "service.log").write_bytes(b"log line " + secret + b"\n")
        assert f"service.log: {what}" in leaks(run, secrets)
    (run / "service.log").write_bytes(b"")
    pem, key = (run / "tls.key").read_text(), (run / "bank.api-key").read_text()
    assert "output 0: a private key" in leaks(run, secrets, pem)
    assert "output 1: an API key" in leaks(run, secrets, "", f"used {key}")
    pepper = base64.b64encode((run / "api-key.pepper").read_bytes()).decode()
    assert leaks(run, secrets, f"pepper={pepper}")
