"""Encryption keys that an aggregator keeps: for old rounds from its disk, for new tasks anew."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from finsecure_aggregator.key_store import KeyStore
from finsecure_crypto.errors import FinSecureError, UnavailableError
from finsecure_crypto.homomorphic.key_record import KeyState
from finsecure_rpc.encryption_keys import RegisteredKey

from tests.support.encrypted import KEY_NAME, TRUSTEES, registered_key
from tests.support.pki import TestAuthority


@dataclass
class Register:
    """A key service with one key, or none when it is away."""

    key: RegisteredKey | None

    async def download(self, name: str) -> RegisteredKey:
        if self.key is None:
            raise UnavailableError("SERVICE_UNREACHABLE", "away")
        return self.key


@pytest.fixture
def pki() -> TestAuthority:
    return TestAuthority()


@pytest.fixture
def register(pki: TestAuthority, tmp_path: Path) -> Register:
    return Register(registered_key(pki, tmp_path / "trustees"))


@pytest.fixture
def reopened(pki: TestAuthority, register: Register, tmp_path: Path) -> Callable[[], KeyStore]:
    return lambda: KeyStore(
        tmp_path / "keys",
        register.download,
        "lending.finsecure.internal",
        lambda: pki.anchors,
        pki,
    )


async def test_rounds_go_on_without_the_key_service(
    register: Register, reopened: Callable[[], KeyStore]
) -> None:
    made = await reopened().enabled_key(KEY_NAME)
    assert made.trustees == TRUSTEES
    register.key = None
    assert await reopened().key(KEY_NAME) == made


async def test_nothing_new_begins_under_a_key_that_was_put_out_of_use(
    register: Register, reopened: Callable[[], KeyStore]
) -> None:
    made = await reopened().key(KEY_NAME)
    assert register.key is not None
    register.key = replace(register.key, state=KeyState.DEACTIVATED)
    with pytest.raises(FinSecureError, match="KEY_STATE"):
        await reopened().enabled_key(KEY_NAME)
    assert await reopened().key(KEY_NAME) == made  # rounds that have begun are opened
    register.key = None
    with pytest.raises(FinSecureError, match="SERVICE_UNREACHABLE"):
        await reopened().enabled_key(KEY_NAME)


async def test_a_key_without_its_trustees_word_is_not_kept(
    register: Register, reopened: Callable[[], KeyStore], tmp_path: Path
) -> None:
    assert register.key is not None
    register.key = replace(register.key, endorsements=register.key.endorsements[:2])
    for ask in (reopened().key, reopened().enabled_key):
        with pytest.raises(FinSecureError, match="KEY_NOT_ENDORSED"):
            await ask(KEY_NAME)
    assert not (tmp_path / "keys").exists()


async def test_another_key_under_the_same_name_is_noticed(
    register: Register, reopened: Callable[[], KeyStore], tmp_path: Path
) -> None:
    await reopened().key(KEY_NAME)
    record = next((tmp_path / "keys").glob("*.json"))
    assert register.key is not None
    record.write_text(record.read_text().replace(register.key.description.digest.hex(), "00" * 32))
    with pytest.raises(FinSecureError, match="ENCRYPTION_KEY_CHANGED"):
        await reopened().enabled_key(KEY_NAME)
