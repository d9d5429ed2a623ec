"""Keys fetched from a provider: followed whatever it answers, and good for a while only."""

import asyncio
import http.client
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from finsecure_crypto.errors import AuthenticationError
from finsecure_rpc import jwks
from finsecure_rpc.jwks import HttpsKeys
from finsecure_rpc.oidc import OidcVerifier
from structlog.testing import capture_logs

from tests.support.oidc import Provider, settings

URL = "https://login.example.test/keys"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PROVIDER = Provider()
BODY = "eyJhbGciOi"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def answering(monkeypatch: pytest.MonkeyPatch, *answers: bytes | Exception) -> Callable[[], int]:
    """Let the provider answer so, then the last again and again; returns how often it was asked."""
    left: Iterator[bytes | Exception] = iter(answers)
    asked: list[bytes | Exception] = []

    class Answer:
        def __enter__(self) -> "Answer":
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def read(self, most: int) -> bytes:
            asked.append(next(left, answers[-1]))
            if isinstance(asked[-1], Exception):
                raise asked[-1]
            return asked[-1][:most]

    class Opener:
        def open(self, url: str, timeout: float) -> Answer:
            return Answer()

    monkeypatch.setattr("urllib.request.build_opener", lambda *_: Opener())
    monkeypatch.setattr(jwks, "_SOONEST_S", 0.001)
    return lambda: len(asked)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 -- keys have no event
            await asyncio.sleep(0.001)


def known(keys: HttpsKeys, kid: str = "one") -> bool:
    return keys.get(kid) is not None


@pytest.mark.parametrize(
    "error",
    [
        http.client.IncompleteRead(BODY.encode(), 9),
        http.client.BadStatusLine(BODY),
        http.client.LineTooLong("header"),
        OSError("no route"),
        RuntimeError(BODY),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_one_bad_answer_ends_nothing_and_a_withdrawn_key_goes(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    withdrawn = PROVIDER.key_set().replace(b'"one"', b'"two"')
    keys = HttpsKeys(URL)
    answering(monkeypatch, PROVIDER.key_set(), error, error, withdrawn)
    with capture_logs() as lines:
        task = asyncio.create_task(keys.run())
        await until(lambda: known(keys))
        keys.get("unknown")  # so that it is asked again soon
        await until(lambda: not known(keys))
        assert known(keys, "two")
        assert not task.done()
        task.cancel()
    failures = [line for line in lines if line["event"] == "keys of the provider not fetched"]
    assert len(failures) == 2
    assert all(type(error).__name__ in line["error"] for line in failures)
    assert BODY not in str(lines)


async def test_keys_that_are_too_old_let_nobody_in_and_put_out_who_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    keys = HttpsKeys(URL, clock)
    verifier = OidcVerifier(settings(Path("unused")), keys, "finsecure.test", lambda: NOW)
    asked = answering(monkeypatch, PROVIDER.key_set(), OSError("away"))
    task = asyncio.create_task(keys.run())
    await until(lambda: known(keys))
    bearer = verifier.verify(PROVIDER.token(NOW))
    keys.get("unknown")
    await until(lambda: asked() >= 3)  # it goes on asking by itself
    clock.now_s += 900
    verifier.recheck(bearer)
    clock.now_s += 1
    for refused in (lambda: verifier.recheck(bearer), lambda: verifier.verify(PROVIDER.token(NOW))):
        with pytest.raises(AuthenticationError, match=r"could not be asked .* since") as caught:
            refused()
        assert caught.value.code == "TOKEN_KEY_UNKNOWN"
    answering(monkeypatch, PROVIDER.key_set())
    await until(lambda: _passes(verifier))
    verifier.recheck(bearer)
    task.cancel()


def _passes(verifier: OidcVerifier) -> bool:
    try:
        verifier.verify(PROVIDER.token(NOW))
    except AuthenticationError:
        return False
    return True


def test_a_provider_that_never_answered_is_said_to_be_away() -> None:
    clock = Clock()
    keys = HttpsKeys(URL, clock)
    assert not known(keys)
    clock.now_s += 901
    with pytest.raises(AuthenticationError, match="could not be asked"):
        keys.get("one")
