import json
import logging
import os
import subprocess
import sys

import pytest
import structlog
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.logs import REDACTED, configure, get_logger, redact

JOIN_TOKEN = "fsj_0123456789abcdef_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_1a2b3c4d"
API_KEY = "fs_bank-a_3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_1a2b3c4d"


@pytest.fixture
def configured():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    structlog.reset_defaults()
    yield configure
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "name",
    [
        "secret",
        "api_key",
        "apikey",
        "password",
        "pepper",
        "self_mask_seed",
        "page_token",
        "private_key",
        "tls_key_pem",
        "authorization",
        "share",
        "shares",
        "API_KEY",
    ],
)
def test_what_is_named_like_a_secret_is_redacted(name):
    assert redact("value", name) == REDACTED
    assert redact({name: "value"}) == {name: REDACTED}


@pytest.mark.parametrize("name", ["key_ring", "spiffe_id", "peer", "shared_folder", "seeded"])
def test_other_names_are_kept(name):
    assert redact("value", name) == "value"


def test_secrets_are_found_by_their_look():
    assert redact(f"the key {API_KEY} leaked") == f"the key {REDACTED} leaked"
    assert redact(JOIN_TOKEN) == REDACTED
    assert redact([API_KEY, {"a": (API_KEY,)}]) == [REDACTED, {"a": [REDACTED]}]
    pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\nrest"
    assert redact(pem) == f"{REDACTED}\nrest"
    assert redact(SecretBytes(b"hunter2")) == REDACTED
    assert redact(b"hunter2") == "<7 bytes>"


def test_lines_are_json_with_service_time_and_level(configured, capsys):
    configured("aggregator")
    get_logger("x").info("round opened", round="r1", api_key=API_KEY, count=3)
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "round opened"
    assert line["service"] == "aggregator"
    assert line["level"] == "info"
    assert line["round"] == "r1"
    assert line["count"] == 3
    assert line["api_key"] == REDACTED
    assert line["timestamp"].endswith("Z")


def test_libraries_and_tracebacks_are_redacted_too(configured, capsys):
    configured("aggregator")
    logging.getLogger("some.library").warning("got %s", API_KEY)
    try:
        raise ValueError(API_KEY)
    except ValueError:
        get_logger("x").exception("failed")
    text = capsys.readouterr().err
    assert len(text.splitlines()) == 2
    assert API_KEY not in text
    assert "ValueError" in json.loads(text.splitlines()[1])["exception"]


def test_the_level_is_kept(configured, capsys):
    configured("aggregator", "warning")
    get_logger("x").info("not this")
    get_logger("x").warning("but this")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == [
        "but this"
    ]


_AT_IMPORT = """
import importlib, os, sys
class Look:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_VERBOSITY"))
sys.meta_path.insert(0, Look())
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize("service", ["keyservice", "aggregator", "client", "cli"])
def test_the_core_of_grpc_is_silenced_before_it_is_imported(service):
    environment = {key: value for key, value in os.environ.items() if key != "GRPC_VERBOSITY"}
    shown = subprocess.run(
        [sys.executable, "-c", _AT_IMPORT, f"finsecure_{service}.main"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert shown.stdout.split() == ["NONE"]
