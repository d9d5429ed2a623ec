from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from finsecure_client.trust import SignedModel, Trust
from finsecure_crypto.errors import AuthenticationError, FinSecureError
from finsecure_crypto.model_version import ModelVersion
from finsecure_rpc.identity_store import Identity

from tests.support.pki import TestAuthority, utc_now

DOMAIN = "lending.finsecure.internal"


@pytest.fixture(scope="module")
def pki() -> TestAuthority:
    return TestAuthority()


@pytest.fixture
def trust(pki: TestAuthority) -> Trust:
    return Trust(DOMAIN, lambda: pki.anchors, pki.current)


def identity(
    pki: TestAuthority,
    folder: Path,
    role: str,
    name: str,
    federation: str = "lending",
    **k: datetime,
) -> Identity:
    return pki.enrol(
        folder / f"{role}-{name}-{federation}", role, name, federation=federation, **k
    ).current()


def sign(signer: Identity, made: datetime | None = None) -> SignedModel:
    time = int((made or utc_now()).timestamp() * 1e9)
    version = ModelVersion(
        "federations/lending/tasks/t/models/3", 3, b"d" * 32, 9, b"p" * 32, "r", time
    )
    return SignedModel(version, version.sign(signer.signing_key), signer.signing_certificate)


def test_peer_is_who_it_says(pki: TestAuthority, trust: Trust, tmp_path: Path) -> None:
    bank = identity(pki, tmp_path, "client", "bank-a")
    assert trust.peer("bank-a", bank.signing_certificate) == bank.signing_key.public


@pytest.mark.parametrize(
    ("role", "name", "federation"),
    [
        ("client", "bank-b", "lending"),
        ("client", "bank-a", "leasing"),
        ("aggregator", "bank-a", "lending"),
        ("operator", "bank-a", "lending"),
    ],
)
def test_peer_is_somebody_else(
    pki: TestAuthority, trust: Trust, tmp_path: Path, role: str, name: str, federation: str
) -> None:
    found = identity(pki, tmp_path, role, name, federation)
    with pytest.raises(AuthenticationError) as caught:
        trust.peer("bank-a", found.signing_certificate)
    assert caught.value.code == "CERTIFICATE_UNTRUSTED"


def test_peer_of_another_authority(trust: Trust, tmp_path: Path) -> None:
    stranger = identity(TestAuthority(), tmp_path, "client", "bank-a")
    with pytest.raises(AuthenticationError) as caught:
        trust.peer("bank-a", stranger.signing_certificate)
    assert caught.value.code == "CERTIFICATE_UNTRUSTED"


def test_peer_that_was_revoked_or_has_expired(tmp_path: Path) -> None:
    pki = TestAuthority()
    trust = Trust(DOMAIN, lambda: pki.anchors, pki.current)
    bank = identity(pki, tmp_path, "client", "bank-a")
    later = replace(trust, now=lambda: utc_now() + timedelta(hours=25))
    with pytest.raises(AuthenticationError) as caught:
        later.peer("bank-a", bank.signing_certificate)
    assert caught.value.code == "CERTIFICATE_EXPIRED"
    pki.revoke(bank.signing.serial)
    with pytest.raises(AuthenticationError) as caught:
        trust.peer("bank-a", bank.signing_certificate)
    assert caught.value.code == "CERTIFICATE_REVOKED"


def test_old_model_signed_again_under_a_renewed_certificate(
    pki: TestAuthority, trust: Trust, tmp_path: Path
) -> None:
    trust.check_model(
        sign(identity(pki, tmp_path, "aggregator", "main"), utc_now() - timedelta(days=40))
    )


def test_model_of_a_signer_whose_certificate_has_expired(tmp_path: Path) -> None:
    # Whoever finds an old signing key cannot date a model back into that key's day.
    pki = TestAuthority(crl_lifetime=timedelta(days=30))
    model = sign(identity(pki, tmp_path, "aggregator", "main"))
    later = Trust(DOMAIN, lambda: pki.anchors, pki.current, lambda: utc_now() + timedelta(days=3))
    with pytest.raises(AuthenticationError) as caught:
        later.check_model(model)
    assert caught.value.code == "CERTIFICATE_EXPIRED"


def test_model_of_a_revoked_signer(tmp_path: Path) -> None:
    pki = TestAuthority()
    signer = identity(pki, tmp_path, "aggregator", "main")
    model = sign(signer)
    pki.revoke(signer.signing.serial)
    with pytest.raises(AuthenticationError) as caught:
        Trust(DOMAIN, lambda: pki.anchors, pki.current).check_model(model)
    assert caught.value.code == "CERTIFICATE_REVOKED"


def test_model_is_not_believed_without_a_fresh_revocation_list(tmp_path: Path) -> None:
    pki = TestAuthority()
    model = sign(identity(pki, tmp_path, "aggregator", "main"))
    later = Trust(DOMAIN, lambda: pki.anchors, pki.current, lambda: utc_now() + timedelta(hours=2))
    with pytest.raises(AuthenticationError) as caught:
        later.check_model(model)
    assert caught.value.code == "REVOCATION_LIST_STALE"


@pytest.mark.parametrize(
    ("role", "federation"), [("client", "lending"), ("aggregator", "leasing"), ("operator", "x1")]
)
def test_model_signed_by_somebody_else(
    pki: TestAuthority, trust: Trust, tmp_path: Path, role: str, federation: str
) -> None:
    with pytest.raises(AuthenticationError) as caught:
        trust.check_model(sign(identity(pki, tmp_path, role, "main", federation)))
    assert caught.value.code == "CERTIFICATE_UNTRUSTED"


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": b"x" * 32},
        {"size_bytes": 10},
        {"version": 4},
        {"name": "federations/lending/tasks/u/models/3"},
        {"parent_sha256": b""},
        {"round": "s"},
    ],
)
def test_bent_description(
    pki: TestAuthority, trust: Trust, tmp_path: Path, change: dict[str, object]
) -> None:
    model = sign(identity(pki, tmp_path, "aggregator", "main"))
    bent = replace(model, version=replace(model.version, **change))  # type: ignore[arg-type]
    with pytest.raises(FinSecureError) as caught:
        trust.check_model(bent)
    assert caught.value.code == "MODEL_SIGNATURE_REJECTED"
