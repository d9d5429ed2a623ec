"""Tokens of people: the sound ones name somebody, all others are refused by name."""

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import (
    AuthenticationError,
    ConfigurationError,
    PermissionDeniedError,
)
from finsecure_rpc.bearer import token_of
from finsecure_rpc.jwks import FileKeys, HttpsKeys, parse_keys
from finsecure_rpc.oidc import OidcVerifier
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey
from pydantic import ValidationError

from tests.support.oidc import ALGORITHMS, Provider, settings

PROVIDER = Provider()
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LAST_SECOND = 253_402_300_799  # of the year 9999
SOUND = PROVIDER.token(NOW)


class Keys:
    def get(self, kid: str):
        return parse_keys(PROVIDER.key_set()).get(kid)


def verifier(now: datetime = NOW, **changed) -> OidcVerifier:
    return OidcVerifier(settings(Path("unused"), **changed), Keys(), "finsecure.test", lambda: now)


def test_a_sound_token_names_somebody_for_a_while() -> None:
    bearer = verifier().verify(PROVIDER.token(NOW))
    assert bearer.spiffe_id.role is Role.OPERATOR
    assert bearer.spiffe_id.trust_domain == "finsecure.test"
    assert bearer.spiffe_id.id.startswith("oidc-")
    assert bearer.subject == "erin"
    assert bearer.not_after == NOW + 11 * MINUTE
    verifier(NOW + 11 * MINUTE).recheck(bearer)
    with pytest.raises(AuthenticationError, match="TOKEN_EXPIRED"):
        verifier(NOW + 12 * MINUTE).recheck(bearer)


def test_the_name_follows_from_issuer_and_subject_alone() -> None:
    names = {
        verifier().verify(PROVIDER.token(NOW, **changed)).spiffe_id.id
        for changed in ({}, {"aud": ["else", "finsecure"]}, {"exp": NOW.timestamp() + 60})
    }
    assert len(names) == 1
    other = verifier().verify(PROVIDER.token(NOW, sub="frank")).spiffe_id.id
    assert other not in names


@pytest.mark.parametrize(
    ("roles", "role"),
    [
        ("fs-view", Role.VIEWER),
        (["fs-run", "fs-view", "other"], Role.OPERATOR),
        (["fs-run", "fs-view", 7, None], Role.OPERATOR),
    ],
)
def test_the_highest_role_counts(roles, role: Role) -> None:
    assert verifier().verify(PROVIDER.token(NOW, roles=roles)).spiffe_id.role is role


def test_no_claim_makes_a_security_officer() -> None:
    with pytest.raises(ValidationError):
        settings(Path("keys"), roles={"fs-security": "officer"})


@pytest.mark.parametrize(
    "roles", [None, [], "", "officer", ["Fs-Run"], {"fs-run": 1}, 3, [["fs-run"]]]
)
def test_without_a_role_nobody_gets_in(roles) -> None:
    with pytest.raises(PermissionDeniedError, match="TOKEN_WITHOUT_ROLE"):
        verifier().verify(PROVIDER.token(NOW, roles=roles))


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"iss": "https://evil.example.test"}, "TOKEN_ISSUER"),
        ({"iss": None}, "TOKEN_ISSUER"),
        ({"iss": ["https://login.example.test"]}, "TOKEN_ISSUER"),
        ({"aud": "other"}, "TOKEN_AUDIENCE"),
        ({"aud": None}, "TOKEN_AUDIENCE"),
        ({"aud": ["finsecure2", "FinSecure"]}, "TOKEN_AUDIENCE"),
        ({"aud": {"finsecure": 1}}, "TOKEN_AUDIENCE"),
        ({"sub": None}, "TOKEN_MALFORMED"),
        ({"sub": ""}, "TOKEN_MALFORMED"),
        ({"sub": 7}, "TOKEN_MALFORMED"),
        ({"sub": "x" * 256}, "TOKEN_MALFORMED"),
        ({"exp": None}, "TOKEN_MALFORMED"),
        ({"iat": None}, "TOKEN_MALFORMED"),
        ({"exp": "tomorrow"}, "TOKEN_MALFORMED"),
        ({"exp": True}, "TOKEN_MALFORMED"),
        ({"exp": 1e300}, "TOKEN_MALFORMED"),
        ({"exp": float("nan")}, "TOKEN_MALFORMED"),
        ({"exp": NOW.timestamp() + 7200}, "TOKEN_LIFETIME"),
        ({"iat": NOW.timestamp() - 9000, "nbf": None}, "TOKEN_LIFETIME"),
        ({"exp": LAST_SECOND}, "TOKEN_LIFETIME"),
        ({"exp": LAST_SECOND, "iat": LAST_SECOND, "nbf": None}, "TOKEN_EXPIRED"),
        ({"iat": -62_135_596_800, "nbf": None}, "TOKEN_LIFETIME"),
        ({"exp": NOW.timestamp() - 61}, "TOKEN_EXPIRED"),
        ({"nbf": NOW.timestamp() + 61}, "TOKEN_EXPIRED"),
        ({"iat": NOW.timestamp() + 61, "nbf": None}, "TOKEN_EXPIRED"),
    ],
)
def test_claims_that_do_not_hold(changed, code: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        verifier().verify(PROVIDER.token(NOW, **changed))
    assert caught.value.code == code


@pytest.mark.parametrize("minutes", [-10, 10])
def test_clocks_may_differ_by_the_leeway_and_no_more(minutes: int) -> None:
    token = PROVIDER.token(NOW + minutes * MINUTE, exp=(NOW + (minutes + 1) * MINUTE).timestamp())
    verifier(leeway_s=600).verify(token)
    with pytest.raises(AuthenticationError, match="TOKEN_EXPIRED"):
        verifier(leeway_s=500).verify(token)


def segment(value) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def hand_made(header, signature: bytes = b"", claims=None) -> str:
    body = f"{segment(header)}.{segment(claims or PROVIDER.claims(NOW))}"
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def confused() -> str:
    """HS256 under the provider's public key, as if it were a secret (RFC 8725, 2.1)."""
    body = f"{segment({'alg': 'HS256', 'kid': 'rsa'})}.{segment(PROVIDER.claims(NOW))}"
    public = PROVIDER.rsa.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    mac = hmac.digest(public, body.encode(), "sha256")
    return f"{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def hostile() -> dict[str, tuple[str, str]]:
    other = ECKey.generate_key("P-256", {"kid": "one"})
    claims, sound = PROVIDER.claims(NOW), PROVIDER.token(NOW)
    head, body, signature = sound.split(".")
    elevated = segment({**claims, "roles": ["fs-run"]})
    own_key = other.as_dict(private=False)
    return {
        "alg none": (hand_made({"alg": "none", "kid": "one"}), "TOKEN_ALGORITHM"),
        "alg None": (hand_made({"alg": "NONE", "kid": "one"}), "TOKEN_ALGORITHM"),
        "no alg": (hand_made({"kid": "one"}), "TOKEN_ALGORITHM"),
        "alg a list": (hand_made({"alg": ["ES256"], "kid": "one"}), "TOKEN_ALGORITHM"),
        "HS256 with the public key": (confused(), "TOKEN_ALGORITHM"),
        "algorithm not pinned": (
            PROVIDER.sign(claims, PROVIDER.rsa, alg="RS256", kid="rsa"),
            "TOKEN_ALGORITHM",
        ),
        "algorithm of another key": (
            hand_made({"alg": "ES256", "kid": "rsa"}, b"s" * 64),
            "TOKEN_REJECTED",
        ),
        "somebody else's key": (PROVIDER.sign(claims, other), "TOKEN_REJECTED"),
        "claims changed": (f"{head}.{elevated}.{signature}", "TOKEN_REJECTED"),
        "signature cut": (sound[:-4], "TOKEN_REJECTED"),
        "no signature": (f"{head}.{body}.", "TOKEN_REJECTED"),
        "unknown kid": (PROVIDER.sign(claims, kid="two"), "TOKEN_KEY_UNKNOWN"),
        "symmetric key of the set": (
            hand_made({"alg": "ES256", "kid": "shared"}),
            "TOKEN_KEY_UNKNOWN",
        ),
        "no kid": (PROVIDER.sign(claims, kid=None), "TOKEN_KEY_UNKNOWN"),
        "kid a path": (hand_made({"alg": "ES256", "kid": "../../etc/passwd"}), "TOKEN_KEY_UNKNOWN"),
        "kid a query": (hand_made({"alg": "ES256", "kid": "' OR 1=1 --"}), "TOKEN_KEY_UNKNOWN"),
        "kid a list": (hand_made({"alg": "ES256", "kid": ["one"]}), "TOKEN_KEY_UNKNOWN"),
        "brings its key": (
            hand_made({"alg": "ES256", "kid": "one", "jwk": own_key}),
            "TOKEN_MALFORMED",
        ),
        "names its keys": (
            hand_made({"alg": "ES256", "kid": "one", "jku": "https://evil.test/keys"}),
            "TOKEN_MALFORMED",
        ),
        "critical header": (
            hand_made({"alg": "ES256", "kid": "one", "crit": ["exp"], "exp": 1}),
            "TOKEN_MALFORMED",
        ),
        "another type": (
            hand_made({"alg": "ES256", "kid": "one", "typ": "logout+jwt"}),
            "TOKEN_MALFORMED",
        ),
        "encrypted": ("a.b.c.d.e", "TOKEN_MALFORMED"),
        "empty": ("", "TOKEN_MALFORMED"),
        "dots": ("..", "TOKEN_MALFORMED"),
        "huge": (f"{head}.{'A' * 100_000}.{signature}", "TOKEN_MALFORMED"),
        "deep": (f"{segment(0)}{'[' * 5000}.a.b", "TOKEN_MALFORMED"),
        "header a list": (hand_made([]), "TOKEN_MALFORMED"),
        "claims a list": (
            hand_made({"alg": "ES256", "kid": "one"}, claims=[1]),
            "TOKEN_REJECTED",
        ),
    }


@pytest.mark.parametrize("name", hostile())
def test_hostile_tokens(name: str) -> None:
    token, code = hostile()[name]
    with pytest.raises(AuthenticationError) as caught:
        verifier().verify(token)
    assert caught.value.code == code


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_changed_token_is_never_accepted(data) -> None:
    sound = SOUND
    place = data.draw(st.integers(0, len(sound) - 1))
    text = data.draw(st.text(st.characters(max_codepoint=127), max_size=3))
    changed = sound[:place] + text + sound[place + data.draw(st.integers(0, 3)) :]
    parts = [part.rstrip("=") for part in changed.split(".")]
    try:
        bearer = verifier().verify(changed)
    except (AuthenticationError, PermissionDeniedError):
        return
    # Only spellings of the same signed bytes get through.
    assert bearer.subject == "erin"
    assert parts[:2] == sound.split(".")[:2]


@hypothesis_settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "iat", "nbf", "exp", "roles", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=5,
        ),
    )
)
def test_whatever_is_signed_is_judged_by_name(changed) -> None:
    token = PROVIDER.sign({**PROVIDER.claims(NOW), **changed})
    try:
        bearer = verifier().verify(token)
    except (AuthenticationError, PermissionDeniedError) as error:
        assert error.code.startswith("TOKEN_")  # noqa: PT017
    else:
        assert bearer.not_after <= NOW + timedelta(hours=2)


def test_headers_carry_one_token() -> None:
    assert token_of([("authorization", "Bearer abc"), ("other", "x")]) == "abc"
    assert token_of([("other", "x")]) is None
    for hostile_metadata in (
        [("authorization", "Bearer a"), ("authorization", "Bearer b")],
        [("authorization", "Basic abc")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer " + "a" * 8193)],
    ):
        with pytest.raises(AuthenticationError, match="TOKEN_MALFORMED"):
            token_of(hostile_metadata)


def test_a_key_set_in_a_file_is_followed(tmp_path: Path) -> None:
    path = PROVIDER.write(tmp_path)
    keys = FileKeys(path)
    assert keys.get("one") is not None
    assert keys.get("shared") is None  # symmetric
    path.write_bytes(b'{"keys": []}')
    assert keys.get("one") is None
    path.write_bytes(b"damaged!")
    assert keys.get("one") is None
    path.unlink()
    with pytest.raises(ConfigurationError, match="JWKS_INVALID"):
        FileKeys(path)


def test_another_key_under_the_same_id_ends_what_the_former_one_signed(tmp_path: Path) -> None:
    path = PROVIDER.write(tmp_path)
    rules = settings(path)
    checked = OidcVerifier(rules, FileKeys(path), "finsecure.test", lambda: NOW)
    bearer = checked.verify(PROVIDER.token(NOW))
    checked.recheck(bearer)
    successor = Provider()
    successor.write(tmp_path)
    with pytest.raises(AuthenticationError, match="TOKEN_KEY_UNKNOWN"):
        checked.recheck(bearer)
    checked.recheck(checked.verify(successor.token(NOW)))


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"keys": 7}', b"[" * 100_000, b" " * 300_000, b'{"keys": null}', b"\xff"],
)
def test_what_is_no_key_set(content: bytes) -> None:
    with pytest.raises(ValueError):
        parse_keys(content)


def test_keys_that_cannot_be_used_are_left_out() -> None:
    weak = RSAKey.generate_key(1024, {"kid": "weak"}).as_dict(private=False)
    encrypting = {**PROVIDER.key.as_dict(private=False), "kid": "e", "use": "enc"}
    nameless = {k: v for k, v in PROVIDER.key.as_dict(private=False).items() if k != "kid"}
    broken = {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "broken"}
    first = {**PROVIDER.key.as_dict(private=False), "kid": "twice"}
    listed = [weak, encrypting, nameless, broken, first, {**broken, "kid": "twice"}, "text", None]
    assert set(parse_keys(json.dumps({"keys": listed}).encode())) == {"twice"}
    with pytest.raises(ValueError):
        parse_keys(json.dumps({"keys": [first] * 65}).encode())


async def test_fetched_keys_are_bounded_and_the_last_ones_stay(monkeypatch) -> None:
    with pytest.raises(ConfigurationError, match="JWKS_INVALID"):
        HttpsKeys("http://login.example.test/keys")
    keys = HttpsKeys("https://login.example.test/keys")
    asked = []

    class Answer:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def read(self, most: int) -> bytes:
            asked.append(most)
            return PROVIDER.key_set()

    class Opener:
        def open(self, url: str, timeout: float):
            assert url == "https://login.example.test/keys"
            assert timeout <= 10
            return Answer()

    monkeypatch.setattr("urllib.request.build_opener", lambda *_: Opener())
    assert set(keys._fetch()) == {"one", "rsa"}
    assert asked == [256 * 1024 + 1]


def test_configuration_names_one_source() -> None:
    for wrong in (
        {"jwks_url": "https://x.test/keys"},
        {"jwks_file": None},
        {"jwks_file": None, "jwks_url": "http://x.test"},
        {"algorithms": ("HS256",)},
        {"algorithms": ("none",)},
        {"algorithms": ()},
        {"roles": {}},
        {"roles": {"x": "keyservice"}},
    ):
        with pytest.raises(ValidationError):
            settings(Path("jwks"), **wrong)
    assert settings(Path("jwks")).algorithms == ALGORITHMS
