"""Keys are read by their mode; a mode whose library is missing says what to install."""

import sys

import pytest
from finsecure_crypto import transcript
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.homomorphic import registry
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.scheme import key_digest
from finsecure_crypto.secret import SecretBytes


@pytest.mark.parametrize(
    ("mode", "extra"), [("paillier", "paillier"), ("bgv", "lattice"), ("ckks", "lattice")]
)
def test_a_missing_extra_is_named(mode: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"finsecure_crypto.homomorphic.{mode}", None)
    for read in (
        lambda: registry.load_key(Mode(mode), b""),
        lambda: registry.load_share(Mode(mode), SecretBytes(b"")),
        lambda: registry.require(Mode(mode)),
    ):
        with pytest.raises(ConfigurationError, match=rf"finsecure\[{extra}\]") as caught:
            read()
        assert caught.value.code == "EXTRA_MISSING"


def test_a_key_is_named_by_mode_and_bytes() -> None:
    assert key_digest(Mode.BGV, b"key") == transcript.digest("encryption-key", "bgv", b"key")
    assert key_digest(Mode.BGV, b"key") != key_digest(Mode.CKKS, b"key")
