"""API keys: form, checksum, and what the store may learn of them."""

import os
import re

import pytest
from finsecure_crypto.errors import AuthenticationError
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.admission_keys import ApiKey
from hypothesis import given
from hypothesis import strategies as st

PEPPER = SecretBytes(b"p" * 32)


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=32, max_size=32))
def test_text_form_round_trips_for_every_secret(identifier: bytes, secret: bytes) -> None:
    key = ApiKey(identifier.hex(), SecretBytes(secret))
    text = key.expose()
    assert re.fullmatch(r"fs_[0-9a-f]{16}_[A-Za-z0-9_-]{43}_[0-9a-f]{8}", text)
    assert ApiKey.parse(text) == key
    assert ApiKey.parse(f"  {text}\n") == key


@given(st.integers(min_value=0, max_value=76), st.sampled_from("0aZ_- é"))
def test_one_wrong_character_is_noticed_before_the_store_is_asked(at: int, wrong: str) -> None:
    text = ApiKey("0123456789abcdef", SecretBytes(bytes(range(32)))).expose()
    at %= len(text)
    changed = text[:at] + wrong + text[at + 1 :]
    if changed == text:
        assert ApiKey.parse(changed).expose() == text
        return
    with pytest.raises(AuthenticationError) as caught:
        ApiKey.parse(changed)
    assert caught.value.code == "API_KEY_MALFORMED"
    assert "AAECAw" not in str(caught.value)


def test_last_character_cannot_hide_a_second_spelling() -> None:
    # 43 characters carry 258 bits: the last two must not make a second text of the same key.
    import zlib

    text = ApiKey("0" * 16, SecretBytes(bytes(32))).expose()
    prefix, secret = "fs_" + "0" * 16 + "_", text.split("_")[2]
    other = prefix + secret[:-1] + "B"
    other += f"_{zlib.crc32(other.encode()):08x}"
    with pytest.raises(AuthenticationError, match="API_KEY_MALFORMED"):
        ApiKey.parse(other)


def test_stored_digest_depends_on_key_id_and_pepper() -> None:
    key = ApiKey.generate(os.urandom)
    stored = key.digest(PEPPER)
    assert key.matches(PEPPER, stored)
    assert not key.matches(SecretBytes(b"q" * 32), stored)
    assert not ApiKey("0" * 16, key.secret).matches(PEPPER, stored)
    assert not ApiKey.generate(os.urandom).matches(PEPPER, stored)
    assert not key.matches(PEPPER, None)
    assert key.secret.expose() not in stored


def test_the_text_of_the_object_shows_nothing() -> None:
    key = ApiKey.generate(os.urandom)
    secret = key.expose().split("_", 2)[2]
    assert secret[:10] not in repr(key)
    assert secret[:10] not in f"{key}"
