"""An aggregator that follows a trustee's log uses it while it remembers, and tells when not."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from finsecure_aggregator.encryption import Opening
from finsecure_aggregator.followed_trustee import FollowedTrustee
from finsecure_aggregator.transport import RemoteTrustee
from finsecure_crypto.certificates import Role, verify_member
from finsecure_crypto.errors import FinSecureError
from finsecure_keyservice.audit.trail import Trail
from finsecure_rpc.audit import LogFollower, trustee_log
from finsecure_rpc.connection import Connection
from finsecure_rpc.log_memory import LogMemory

from tests.support.pki import TestAuthority
from tests.support.trustees import Bank, Federation, Trustee, key, make_trustee, served


@pytest.fixture(scope="module")
def federation() -> Federation:
    return Federation(TestAuthority())


@asynccontextmanager
async def followed(trustee: Trustee, folder: Path) -> AsyncIterator[FollowedTrustee]:
    """The trustee as an aggregator that remembers in a folder reaches it."""
    pki = trustee.pki
    own = pki.enrol(folder / "aggregator", Role.AGGREGATOR, "main")

    def verify(name: str, certificate: bytes) -> bytes:
        member = pki.spiffe_id(Role.TRUSTEE, name)
        return verify_member(certificate, pki.anchors, pki.current(), datetime.now(UTC), member)

    async with (
        served(trustee) as address,
        Connection(address, own, Role.TRUSTEE) as connection,
    ):
        origin = trustee_log(f"lending.{pki.domain}", trustee.id)
        follower = LogFollower(connection, LogMemory(folder / "memory.json"), origin=origin)
        yield FollowedTrustee(RemoteTrustee(trustee.id, connection, verify), follower)


def opening(bank: Bank, folder: Path) -> Opening:
    inputs = []
    for contribution, content in zip(bank.manifest, bank.inputs, strict=True):
        inputs.append(folder / contribution.client)
        inputs[-1].write_bytes(content)
    return Opening(bank.request, bank.manifest, inputs)


async def test_a_trustee_whose_database_is_put_back_is_refused_before_it_is_asked(
    federation: Federation, tmp_path: Path
) -> None:
    bank = federation.sum()
    asked = opening(bank, tmp_path)
    trustee = make_trustee(tmp_path / "t", federation.pki, 1)
    trustee.hold()
    trustee.database.close()
    shutil.copy(tmp_path / "t" / "trustee.db", tmp_path / "snapshot.db")
    trustee = trustee.restarted()
    async with followed(trustee, tmp_path) as reached:
        partial = await reached.partially_decrypt(asked, 1)
        key().verify_partial(bank.total, 1, partial, bank.request.digest())
        assert await reached.partially_decrypt(asked, 1) == partial
    trustee.database.close()
    # Before the decision: the round would be open again.
    shutil.copy(tmp_path / "snapshot.db", tmp_path / "t" / "trustee.db")
    trustee = trustee.restarted()
    async with followed(trustee, tmp_path) as reached:
        with pytest.raises(FinSecureError, match="AUDIT_LOG_ROLLED_BACK"):
            await reached.partially_decrypt(asked, 1)
    assert trustee.events() == []
    # Made anew, it has another log.
    trustee.database.close()
    (tmp_path / "t" / "trustee.db").unlink()
    trustee = make_trustee(tmp_path / "t", federation.pki, 1)
    trustee.hold()
    async with followed(trustee, tmp_path) as reached:
        with pytest.raises(FinSecureError, match="AUDIT_KEY_UNKNOWN"):
            await reached.partially_decrypt(asked, 1)
    trustee.database.close()


async def test_a_partial_that_is_not_on_record_is_not_taken(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trustee = make_trustee(tmp_path / "t", federation.pki, 1)
    trustee.hold()
    monkeypatch.setattr(Trail, "record", lambda *_, **__: None)  # a trustee that keeps no log
    async with followed(trustee, tmp_path) as reached:
        with pytest.raises(FinSecureError, match="PUBLICATION_NOT_FOUND"):
            await reached.partially_decrypt(opening(federation.sum(), tmp_path), 1)
    trustee.database.close()


async def test_another_trustee_in_its_place_is_noticed(
    federation: Federation, tmp_path: Path
) -> None:
    trustee = make_trustee(tmp_path / "t", federation.pki, 2)
    trustee.hold()
    own = federation.pki.enrol(tmp_path / "aggregator", Role.AGGREGATOR, "main")
    async with (
        served(trustee) as address,
        Connection(address, own, Role.TRUSTEE) as connection,
    ):
        origin = trustee_log(f"lending.{federation.pki.domain}", "trustee-1")
        follower = LogFollower(connection, LogMemory(tmp_path / "memory.json"), origin=origin)
        remote = RemoteTrustee("trustee-1", connection, lambda *_: b"")
        with pytest.raises(FinSecureError, match="AUDIT_LOG_FOREIGN"):
            await FollowedTrustee(remote, follower).partially_decrypt(
                opening(federation.sum(), tmp_path), 1
            )
    assert trustee.events() == []
    trustee.database.close()
