"""Signing with the root's key, away from any network."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from finsecure_cli.main import app
from finsecure_crypto.certificates import TrustAnchors
from finsecure_rpc.root_signing import write_request
from typer.testing import CliRunner

from tests.support.pki import TestAuthority


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    pki = TestAuthority()
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    made = {name: tmp_path / name for name in ("root.pem", "root.key", "next.csr", "next.pem")}
    made["root.pem"].write_bytes(pki.root.pem)
    made["root.key"].write_bytes(pem(pki.root.key))
    made["root.key"].chmod(0o600)
    write_request(made["next.csr"], csr.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    return made


def pem(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def sign(files: dict[str, Path]):
    return CliRunner().invoke(
        app,
        [
            *("ca", "sign", str(files["next.csr"])),
            *("--root", str(files["root.pem"]), "--root-key", str(files["root.key"])),
            *("--out", str(files["next.pem"]), "--days", "30"),
        ],
    )


def test_what_the_root_signs_is_believed(files: dict[str, Path]) -> None:
    assert sign(files).exit_code == 0
    root, made = (
        x509.load_pem_x509_certificate(files[name].read_bytes())
        for name in ("root.pem", "next.pem")
    )
    anchors = TrustAnchors((root.public_bytes(Encoding.DER),), (made.public_bytes(Encoding.DER),))
    assert anchors.domain == "finsecure.internal"


def test_nothing_is_overwritten(files: dict[str, Path]) -> None:
    files["next.pem"].write_text("precious")
    assert sign(files).exception.code == "FILE_EXISTS"
    assert files["next.pem"].read_text() == "precious"


def test_a_key_that_others_may_read_is_not_used(files: dict[str, Path]) -> None:
    files["root.key"].chmod(0o644)
    assert sign(files).exception.code == "KEY_FILE_EXPOSED"


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("next.csr", b"nothing", "FILE_UNREADABLE"),
        ("root.pem", b"nothing", "FILE_UNREADABLE"),
        ("root.key", b"nothing", "FILE_UNREADABLE"),
        ("root.key", pem(ed25519.Ed25519PrivateKey.generate()), "FILE_UNREADABLE"),
        ("root.key", pem(ec.generate_private_key(ec.SECP384R1())), "ROOT_KEY_MISMATCH"),
    ],
)
def test_wrong_files_are_named(
    files: dict[str, Path], name: str, content: bytes, code: str
) -> None:
    files[name].write_bytes(content)
    assert sign(files).exception.code == code
    assert not files["next.pem"].exists()
