"""A trustee erases the share of a key that two officers destroyed, and believes no bare word."""

import asyncio
from pathlib import Path

import pytest
from finsecure_crypto.audit_event import Event
from finsecure_crypto.errors import FinSecureError, IntegrityError, NotFoundError
from finsecure_crypto.homomorphic.key_record import (
    Generation,
    KeyDescription,
    KeyState,
    state_digest,
)
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.scheme import key_digest
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.protection.opening import open_kek
from finsecure_keyservice.schema import ENCRYPTION_KEYS
from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.books import opened_books
from finsecure_keyservice.trustee.config import Erasure
from finsecure_keyservice.trustee.records import HeldKey
from finsecure_keyservice.trustee.surroundings import share_context
from finsecure_keyservice.trustee.transport import RegisteredStates
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.connection import Connection
from finsecure_rpc.database import open_database
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.log_memory import LogMemory
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import update

from tests.support.encryption_keys import NAME, PUBLIC, destroy, register, registration, trustees
from tests.support.keyservice import trail
from tests.support.keyservice_deployment import BANK, Deployment
from tests.support.pki import utc_now
from tests.support.trustee_deployment import DeployedTrustee, enrolled_trustee

KEY = KeyDescription(NAME, Mode.BGV, Generation.DISTRIBUTED, 3, 2, key_digest(Mode.BGV, PUBLIC))


async def holding(keyservice: Deployment, folder: Path, erasure: Erasure) -> DeployedTrustee:
    """A trustee that holds a share of a key in the register."""
    north = await enrolled_trustee(keyservice, folder, erasure=erasure)
    own = IdentityStore(north.configuration.identity_dir).current()
    east, west = await trustees(keyservice, ("east", "west"))
    await register(keyservice.operator, registration([east, own, west]))
    custody = open_kek(north.configuration.protection)
    books, _ = opened_books(
        north.configuration.database, "lending", own.spiffe_id, custody, utc_now
    )
    wrapped = custody.wrap(SecretBytes(b"a share"), share_context(NAME))
    books.database.run_sync(
        lambda c: store.add_key(c, HeldKey(KEY, 2, PUBLIC, wrapped, bytes(32)), utc_now())
    )
    books.database.close()
    return north


async def actions(connection: Connection, folder: Path) -> list[str]:
    follower = LogFollower(connection, LogMemory(folder / "operator-memory.json"))
    return [Event.parse(leaf).action async for leaf in follower.events(1)]


async def until(connection: Connection, folder: Path, wanted: list[str]) -> None:
    for _ in range(1200):
        if await actions(connection, folder) == wanted:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"never {wanted}")


async def test_what_two_officers_destroyed_is_erased_after_the_grace(
    keyservice: Deployment, tmp_path: Path
) -> None:
    north = await holding(keyservice, tmp_path / "north", Erasure(grace_d=7, interval_s=1))
    await destroy(keyservice)
    async with north.running() as connection:
        await until(connection, tmp_path, ["erasure.schedule"])
    # The owner thinks better of it: the grace of the configuration counts.
    north.configuration = north.configuration.model_copy(
        update={"erasure": Erasure(grace_d=0, interval_s=1)}
    )
    async with north.running() as connection:
        await until(connection, tmp_path, ["erasure.schedule", "share.erase"])
    database = open_database(north.configuration.database)
    assert database.run_sync(store.wrapped_shares) == {}
    database.close()


def lie(keyservice: Deployment, *, publish: bool) -> None:
    """Say that the key is destroyed, without the act of two officers."""
    digest = state_digest(KEY, KeyState.DESTROYED)

    def work(connection: SqlConnection) -> None:
        connection.execute(update(ENCRYPTION_KEYS).values(state=KeyState.DESTROYED.value))
        if publish:
            trail(connection).record("key.publish", NAME, published=digest)

    database = open_database(keyservice.configuration.database)
    database.run_sync(work)
    database.close()


@pytest.mark.parametrize("publish", [False, True])
async def test_a_state_that_the_log_does_not_have_is_not_proven(
    keyservice: Deployment, tmp_path: Path, publish: bool
) -> None:
    await holding(keyservice, tmp_path / "north", Erasure())
    lie(keyservice, publish=publish)
    bank = await keyservice.member(BANK)
    states = RegisteredStates(bank, LogFollower(bank, LogMemory(tmp_path / "memory.json")))
    assert await states.state(NAME) is KeyState.DESTROYED
    with pytest.raises(FinSecureError) as caught:
        await states.proven(KEY, KeyState.DESTROYED)
    expected = "AUDIT_PROOF_INVALID" if publish else "PUBLICATION_NOT_FOUND"
    assert caught.value.code == expected


async def test_a_proof_from_a_log_that_was_rolled_back_counts_for_nothing(
    keyservice: Deployment, tmp_path: Path
) -> None:
    await holding(keyservice, tmp_path / "north", Erasure())
    memory = LogMemory(tmp_path / "memory.json")
    await keyservice.stop()
    snapshot = keyservice.snapshot()
    await keyservice.restart()
    await destroy(keyservice)
    bank = await keyservice.member(BANK)
    states = RegisteredStates(bank, LogFollower(bank, memory))
    assert await states.proven(KEY, KeyState.DESTROYED) > 0
    with pytest.raises(NotFoundError):
        await states.proven(KEY, KeyState.COMPROMISED)
    await keyservice.stop()
    keyservice.restore(snapshot)
    await keyservice.restart()
    states = RegisteredStates(keyservice.operator, LogFollower(keyservice.operator, memory))
    assert await states.state(NAME) is KeyState.ENABLED
    lie(keyservice, publish=True)
    with pytest.raises(IntegrityError, match=r"AUDIT_LOG_ROLLED_BACK|AUDIT_LOG_FORKED"):
        await states.proven(KEY, KeyState.DESTROYED)
