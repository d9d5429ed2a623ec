"""A key in a token is erased only after its destruction is on record, and in spite of crashes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from finsecure_crypto.errors import IntegrityError, UnavailableError
from finsecure_crypto.signatures import SignatureAlgorithm, Signer, SoftwareSigner
from finsecure_keyservice.authorities import Authorities
from finsecure_keyservice.authority_store import AuthorityStore
from finsecure_keyservice.keys import versions
from finsecure_keyservice.keys.states import Step, VersionState

from tests.support.keys import KEY, Keys
from tests.support.keyservice import START, root, trail


class MemoryToken:
    """The keys of a token, as long as the test lasts."""

    algorithms = frozenset({SignatureAlgorithm.ED25519})

    def __init__(self) -> None:
        self.keys: dict[bytes, Signer] = {}

    def generate(self, algorithm: SignatureAlgorithm) -> tuple[bytes, Signer]:
        key_id = len(self.keys).to_bytes(16, "big")
        self.keys[key_id] = SoftwareSigner.generate(algorithm)
        return key_id, self.keys[key_id]

    def open(self, algorithm: SignatureAlgorithm, key_id: bytes) -> Signer:
        return self.keys[key_id]

    def destroy(self, key_id: bytes) -> None:
        self.keys.pop(key_id, None)


@pytest.fixture
async def token(keys: Keys) -> MemoryToken:
    """A token that holds one key, whose destruction is due."""
    made = MemoryToken()
    keys.material = replace(keys.material, vault=replace(keys.material.vault, token=made))
    keys.life._material = keys.material
    await keys.create(destroy_delay=timedelta(days=1))
    for step in (Step.DISABLE, Step.SCHEDULE_DESTRUCTION):
        with keys.transaction() as store:
            versions.change(
                store, f"{KEY}/cryptoKeyVersions/1", step, reason="", revision=None,
                now=keys.clock.now,
            )  # fmt: skip
    keys.clock.move(days=1)
    assert len(made.keys) == 1
    return made


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def actions(keys: Keys) -> list[str]:
    return [event.action for event in keys.books.events()]


def fails_once(monkeypatch: pytest.MonkeyPatch, keys: Keys, step: str) -> None:
    """The transaction of a step is rolled back, as by a crash before its commit."""
    act, done = getattr(versions, step), []

    def once(*arguments: Any) -> None:
        act(*arguments)
        if not done:
            done.append(True)
            raise UnavailableError("STORE_UNAVAILABLE", "nothing was written")

    monkeypatch.setattr(versions, step, once)


async def test_a_destroyed_key_is_erased_in_its_token_and_then_forgotten(
    keys: Keys, token: MemoryToken
) -> None:
    await keys.life.tick()
    assert token.keys == {}
    gone = keys.version(1)
    assert (gone.state, gone.handle) == (VersionState.DESTROYED, None)
    assert actions(keys)[-2:] == ["key-version.destroy", "key-version.erase"]
    await keys.life.tick()
    assert actions(keys).count("key-version.erase") == 1


async def test_what_is_not_recorded_as_destroyed_is_still_in_the_token(
    keys: Keys, token: MemoryToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_once(monkeypatch, keys, "destroy")
    with pytest.raises(UnavailableError):
        await keys.life.tick()
    assert keys.version(1).state is VersionState.DESTROY_SCHEDULED
    assert len(token.keys) == 1
    await keys.life.tick()
    assert token.keys == {}
    assert keys.version(1).handle is None


async def test_a_crash_between_token_and_record_is_made_up_for(
    keys: Keys, token: MemoryToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_once(monkeypatch, keys, "forget")
    with pytest.raises(UnavailableError):
        await keys.life.tick()
    assert token.keys == {}
    assert keys.version(1).state is VersionState.DESTROYED
    assert keys.version(1).handle is not None
    await keys.life.tick()
    assert keys.version(1).handle is None


async def test_while_the_token_is_away_it_is_recorded_and_remembered(
    keys: Keys, token: MemoryToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: bytes) -> None:
        raise UnavailableError("TOKEN_NOT_PRESENT", "it is away")

    erase: Callable[[bytes], None] = token.destroy
    monkeypatch.setattr(token, "destroy", away)
    with pytest.raises(UnavailableError):
        await keys.life.tick()
    assert keys.version(1).state is VersionState.DESTROYED
    monkeypatch.setattr(token, "destroy", erase)
    await keys.life.tick()
    assert token.keys == {}
    assert keys.version(1).handle is None


def test_the_key_of_an_authority_opens_for_that_authority_alone(keys: Keys) -> None:
    vault = keys.material.vault
    authorities = Authorities(root().certificate, vault)
    with keys.books.engine.begin() as connection:
        store = AuthorityStore(connection, trail(connection))
        one, other = (authorities.request(store, START) for _ in range(2))
        assert authorities._key(one).public_key() != authorities._key(other).public_key()
        assert authorities.rewrap(store) == 2
        with pytest.raises(Exception, match="STATE_DAMAGED") as refused:
            authorities._key(replace(one, handle=other.handle))
        assert isinstance(refused.value.__cause__, IntegrityError)
