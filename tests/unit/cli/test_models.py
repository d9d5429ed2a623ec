"""Model versions: who signed what, and how version 0 comes to be."""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from finsecure.aggregation.v1 import models_pb2
from finsecure_cli.convert import document, signed_model
from finsecure_cli.initial import build_initial_model, read_initial_model
from finsecure_cli.verify import ModelVerifier
from finsecure_crypto.certificates import Purpose
from finsecure_crypto.errors import (
    AuthenticationError,
    ConfigurationError,
    FinSecureError,
    InvalidArgumentError,
)
from finsecure_crypto.model_version import ModelVersion

from tests.support.pki import TestAuthority, utc_now

CONTENT = safetensors.numpy.save({"w": np.arange(4, dtype=np.float32)})
NAME = "federations/lending/tasks/t1/models/3"


@pytest.fixture(scope="module")
def pki() -> TestAuthority:
    return TestAuthority()


def describe(
    pki: TestAuthority,
    role: str = "aggregator",
    federation: str = "lending",
    age: float = 0.0,
    **validity: datetime,
) -> dict[str, Any]:
    """A signed description of CONTENT, as the service would send it."""
    made = utc_now() - timedelta(seconds=age)
    credentials = pki.credentials(pki.spiffe_id(role, "main", federation), **validity)
    model = models_pb2.Model(
        name=NAME,
        version=3,
        sha256=hashlib.sha256(CONTENT).digest(),
        size_bytes=len(CONTENT),
        parent_sha256=bytes(32),
        round="federations/lending/tasks/t1/rounds/3-1",
        signer_certificate=credentials.signing_certificate,
    )
    model.create_time.FromDatetime(made)
    version = ModelVersion(
        model.name, 3, model.sha256, model.size_bytes, model.parent_sha256, model.round,
        model.create_time.ToNanoseconds(),
    )  # fmt: skip
    model.signature = version.sign(credentials.signing_key)
    return document(model)


def verifier(pki: TestAuthority) -> ModelVerifier:
    return ModelVerifier("lending.finsecure.internal", pki.anchors, pki.current())


def test_genuine_version_is_accepted(pki: TestAuthority) -> None:
    verifier(pki).check(describe(pki), CONTENT)


def test_version_outlives_its_signers_certificate(pki: TestAuthority) -> None:
    later = ModelVerifier(
        "lending.finsecure.internal",
        pki.anchors,
        pki.current(),
        now=lambda: utc_now() + timedelta(minutes=50),
    )
    description = describe(pki)
    later.check(description, CONTENT)


def test_old_version_signed_again_under_a_newer_certificate_is_accepted(
    pki: TestAuthority,
) -> None:
    verifier(pki).check(describe(pki, age=40 * 86400), CONTENT)


def test_certificate_that_ended_before_the_version_was_made_is_refused(pki: TestAuthority) -> None:
    ended = {
        "not_before": utc_now() - timedelta(days=3),
        "not_after": utc_now() - timedelta(days=2),
    }
    with pytest.raises(AuthenticationError) as raised:
        verifier(pki).check(describe(pki, **ended), CONTENT)
    assert raised.value.code == "CERTIFICATE_EXPIRED"


def test_unreadable_certificate_is_refused(pki: TestAuthority) -> None:
    with pytest.raises(AuthenticationError) as raised:
        verifier(pki).check({**describe(pki), "signer_certificate": "00"}, CONTENT)
    assert raised.value.code == "CERTIFICATE_MALFORMED"


@pytest.mark.parametrize("field", ["name", "round", "parent_sha256", "version", "create_time"])
def test_changed_description_is_refused(pki: TestAuthority, field: str) -> None:
    description = describe(pki, age=60)
    changed = {
        "name": NAME.replace("t1", "t2"),
        "round": "",
        "parent_sha256": "",
        "version": 4,
        "create_time": document_time(utc_now() - timedelta(seconds=5)),
    }
    with pytest.raises(FinSecureError) as raised:
        verifier(pki).check({**description, field: changed[field]}, CONTENT)
    assert raised.value.code == "MODEL_SIGNATURE_REJECTED"


def document_time(moment: Any) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c[:-1],
        lambda c: c + b"\0",
        lambda c: bytes([c[0] ^ 1]) + c[1:],
        lambda c: b"",
    ],
)
def test_changed_file_is_refused(pki: TestAuthority, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(FinSecureError) as raised:
        verifier(pki).check(describe(pki), damage(CONTENT))
    assert raised.value.code == "MODEL_DIGEST_MISMATCH"


@pytest.mark.parametrize(
    ("role", "federation"),
    [("client", "lending"), ("operator", "lending"), ("aggregator", "other")],
)
def test_only_the_federations_aggregator_may_sign(
    pki: TestAuthority, role: str, federation: str
) -> None:
    with pytest.raises(AuthenticationError) as raised:
        verifier(pki).check(describe(pki, role, federation), CONTENT)
    assert raised.value.code == "CERTIFICATE_UNTRUSTED"


def test_signer_of_another_authority_is_refused(pki: TestAuthority) -> None:
    with pytest.raises(AuthenticationError):
        verifier(pki).check(describe(TestAuthority()), CONTENT)


def test_revoked_signer_is_refused_for_old_versions_too() -> None:
    pki = TestAuthority()
    description = describe(pki, age=60)
    from finsecure_crypto.certificates import verify_certificate

    certified = verify_certificate(
        bytes.fromhex(description["signer_certificate"]), pki.anchors, None, utc_now(),
        Purpose.SIGNING,
    )  # fmt: skip
    pki.revoke(certified.serial)
    with pytest.raises(AuthenticationError) as raised:
        verifier(pki).check(description, CONTENT)
    assert raised.value.code == "CERTIFICATE_REVOKED"


def test_version_from_the_future_is_refused(pki: TestAuthority) -> None:
    with pytest.raises(AuthenticationError) as raised:
        verifier(pki).check(describe(pki, age=-3600), CONTENT)
    assert raised.value.code == "CERTIFICATE_EXPIRED"


@pytest.mark.parametrize(
    "change",
    [{"sha256": "zz"}, {"version": "three"}, {"create_time": "yesterday"}, {"signature": None}],
)
def test_damaged_description_is_an_error_of_its_own(
    pki: TestAuthority, change: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        signed_model({**describe(pki), **change})
    assert raised.value.code == "DESCRIPTION_INVALID"


MODEL_CODE = """
import numpy as np

class Network:
    def __init__(self, state):
        self.state = state
    def state_dict(self):
        return self.state

def build(inputs):
    weight = np.ones((1, inputs), np.float32)
    return Network({"b.bias": np.zeros(1, np.float32), "a.weight": weight})

def wide(inputs):
    return Network({"w": np.zeros(inputs)})

def infinite(inputs):
    return Network({"w": np.full(inputs, np.inf, np.float32)})

def broken(inputs):
    raise RuntimeError("no such layer")
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "own_model.py").write_text(MODEL_CODE)
    return tmp_path


def test_initial_model_is_built_by_the_users_code(code: Path) -> None:
    model = build_initial_model("own_model:build", 3, [code])
    assert model.tensors == (("a.weight", (1, 3)), ("b.bias", (1,)))
    assert safetensors.numpy.load(model.content)["a.weight"].tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("own_model:wide", "float64"),
        ("own_model:infinite", "infinity"),
        ("own_model:broken", "no such layer"),
        ("own_model:absent", "absent"),
        ("absent_module:build", "absent_module"),
    ],
)
def test_failing_model_code_says_why(code: Path, factory: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as raised:
        build_initial_model(factory, 3, [code])
    assert raised.value.code == "MODEL_FACTORY_FAILED"


def test_initial_model_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(CONTENT)
    assert read_initial_model(path).tensors == (("w", (4,)),)


@pytest.mark.parametrize(
    ("content", "code_"),
    [
        (None, "MODEL_MISSING"),
        (b"", "MODEL_MALFORMED"),
        (b"not safetensors at all", "MODEL_MALFORMED"),
        (CONTENT[:-3], "MODEL_MALFORMED"),
        (safetensors.numpy.save({"w": np.zeros(2)}), "MODEL_MALFORMED"),
    ],
)
def test_bad_model_file_is_refused(content: bytes | None, code_: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FinSecureError) as raised:
        read_initial_model(path)
    assert raised.value.code == code_
