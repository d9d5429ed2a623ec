"""Enrolment, renewal and revocation against a key service, through losses and restarts."""

import asyncio
from datetime import timedelta

import pytest
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import (
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    UnavailableError,
)
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.admission import JoinAs
from finsecure_rpc.connection import Connection
from finsecure_rpc.enrolment import enrol
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.renewal import Renewer, due
from finsecure_rpc.revocation import RevocationWatcher

from tests.support.pki import TestAuthority, utc_now
from tests.support.toy_keyservice import running_keyservice


async def until(condition, seconds=5):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 # whatever it is, it has no event
            await asyncio.sleep(0.02)


KEY = SecretBytes(b"fs_bank-a_0123456789abcdef")


@pytest.fixture
def pki():
    return TestAuthority()


@pytest.fixture
async def keyservice(tmp_path, pki):
    async with running_keyservice(tmp_path / "keyservice", pki) as (service, server):
        service.api_keys[KEY.expose().decode()] = pki.spiffe_id("client", "bank-a")
        service.address = f"127.0.0.1:{server.ports[0]}"
        service.enrol_address = f"127.0.0.1:{server.ports[1]}"
        yield service


@pytest.fixture
async def connection(tmp_path, keyservice, pki):
    store = pki.enrol(tmp_path / "bank-a", "client", "bank-a")
    async with Connection(keyservice.address, store, Role.KEYSERVICE) as opened:
        opened.store = store
        yield opened


async def test_an_api_key_becomes_an_identity(tmp_path, pki, keyservice):
    folder = tmp_path / "bank-a"
    sent = []
    identity = await enrol(
        keyservice.enrol_address,
        pki.root.pem,
        KEY,
        folder,
        on_send=lambda method, message: sent.append((method.rpartition("/")[2], message)),
    )
    assert [(name, message.api_key) for name, message in sent] == [("Enrol", KEY.expose().decode())]
    assert str(identity.spiffe_id) == "spiffe://lending.finsecure.internal/client/bank-a"
    assert not (folder / "pending").exists()
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("tls.key", "signing.key"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert IdentityStore(folder).current() == identity
    with pytest.raises(ConflictError, match="IDENTITY_EXISTS"):
        await enrol(keyservice.enrol_address, pki.root.pem, KEY, folder)


async def test_a_lost_reply_is_made_good_by_the_next_attempt(tmp_path, pki, keyservice):
    keyservice.lose_replies = 10  # more than gRPC itself retries
    with pytest.raises(UnavailableError):
        await enrol(keyservice.enrol_address, pki.root.pem, KEY, tmp_path / "bank-a")
    assert not keyservice.api_keys  # it was spent
    keyservice.lose_replies = 0
    identity = await enrol(keyservice.enrol_address, pki.root.pem, KEY, tmp_path / "bank-a")
    assert identity.spiffe_id.id == "bank-a"


async def test_a_wrong_api_key_leaves_no_identity_and_is_not_repeated(tmp_path, pki, keyservice):
    wrong = SecretBytes(b"fs_bank-a_wrongwrongwrongwrong")
    with pytest.raises(AuthenticationError) as caught:
        await enrol(keyservice.enrol_address, pki.root.pem, wrong, tmp_path / "bank-a")
    assert caught.value.code == "API_KEY_REFUSED"
    assert "wrongwrong" not in str(caught.value)
    assert not IdentityStore(tmp_path / "bank-a").exists()
    await enrol(keyservice.enrol_address, pki.root.pem, KEY, tmp_path / "bank-a")


async def test_a_key_service_below_another_root_is_not_believed(tmp_path, keyservice):
    other = TestAuthority()
    with pytest.raises(AuthenticationError) as caught:
        await enrol(keyservice.enrol_address, other.root.pem, KEY, tmp_path / "bank-a")
    assert caught.value.code == "SERVER_UNTRUSTED"


async def test_a_root_file_that_is_none_is_refused_before_any_call(tmp_path):
    with pytest.raises(ConfigurationError, match="ROOT_INVALID"):
        await enrol("127.0.0.1:1", b"not a certificate", KEY, tmp_path / "bank-a")


async def test_certificates_for_someone_else_are_refused(tmp_path, pki, keyservice):
    keyservice.impostor = pki.spiffe_id("client", "bank-b")
    with pytest.raises(AuthenticationError) as caught:
        await enrol(keyservice.enrol_address, pki.root.pem, KEY, tmp_path / "bank-a")
    assert caught.value.code == "IDENTITY_MISMATCH"
    assert not IdentityStore(tmp_path / "bank-a").exists()


async def test_who_joins_gets_the_id_that_it_wanted_or_nothing(tmp_path, pki, keyservice):
    sent = []
    wanted = JoinAs(SecretBytes(b"fsj_0123456789abcdef"), "branch-1")

    async def join(folder):
        return await enrol(
            keyservice.enrol_address,
            pki.root.pem,
            wanted,
            folder,
            on_send=lambda method, message: sent.append((method.rpartition("/")[2], message)),
        )

    identity = await join(tmp_path / "honest")
    assert identity.spiffe_id == pki.spiffe_id("client", "branch-1")
    assert [(name, message.member_id) for name, message in sent] == [("Join", "branch-1")]
    keyservice.joins_as = "branch-2"  # with certificates that are sound for it
    with pytest.raises(AuthenticationError, match="IDENTITY_MISMATCH"):
        await join(tmp_path / "lied-to")
    assert not IdentityStore(tmp_path / "lied-to").exists()


async def test_renewal_at_half_life_swaps_everything(keyservice, connection):
    keyservice.lifetime = timedelta(seconds=3)
    store, seen = connection.store, []
    old = store.current()
    async with Renewer(store, connection, on_renewed=seen.append) as renewer:
        await renewer.renew_now()  # from 24 h to 3 s (plus 10 min of backdating)
        assert store.current().generation == old.generation + 1
        assert store.current().tls_key_pem != old.tls_key_pem
        assert store.current().signing_key.public != old.signing_key.public
    assert len(seen) == 1
    assert due(store.current()) < utc_now()  # half of it is in the backdated part
    async with Renewer(store, connection, on_renewed=seen.append):
        await asyncio.sleep(4)  # longer than the certificates live
        await Renewer(store, connection).renew_now()
    assert 3 <= len(seen) <= 6  # at half of what is left, not in a loop


async def test_renewal_survives_an_unreachable_key_service(tmp_path, pki):
    now = utc_now()
    store = pki.enrol(
        tmp_path / "a",
        "client",
        "bank-a",
        not_before=now - timedelta(hours=2),
        not_after=now + timedelta(hours=1),
    )
    async with Connection("127.0.0.1:1", store, Role.KEYSERVICE) as connection:
        async with Renewer(store, connection) as renewer:
            await asyncio.sleep(0.3)
            assert renewer._task is not None
            assert not renewer._task.done()
        with pytest.raises(UnavailableError, match="SERVICE_UNREACHABLE"):
            await Renewer(store, connection).renew_now()
    assert store.current().generation == 1


async def test_revocations_arrive_at_once(tmp_path, pki, keyservice, connection):
    cache = tmp_path / "crl.der"
    watcher = RevocationWatcher(connection, lambda: pki.anchors, cache=cache)
    with pytest.raises(AuthenticationError, match="REVOCATION_LIST_STALE"):
        watcher.current()
    await watcher.start(5)
    assert watcher.current().serials == frozenset()
    await keyservice.revoke(7)
    await until(lambda: watcher.current().serials == {7}, 5)
    await watcher.stop()
    # A restart while the key service is away lives from the cache until the list is stale.
    async with Connection("127.0.0.1:1", connection.store, Role.KEYSERVICE) as dead:
        second = RevocationWatcher(dead, lambda: pki.anchors, cache=cache)
        await second.start(5)
        assert second.current().serials == {7}
        await second.stop()
        late = RevocationWatcher(
            dead, lambda: pki.anchors, cache=cache, clock=lambda: utc_now() + timedelta(hours=2)
        )
        with pytest.raises(UnavailableError, match="SERVICE_UNREACHABLE"):
            await late.start(0.2)
        with pytest.raises(AuthenticationError, match="REVOCATION_LIST_STALE"):
            late.current()
        await late.stop()


@pytest.mark.parametrize("hostile", ["rolled back", "stranger", "garbage"])
async def test_a_hostile_list_is_not_taken(pki, keyservice, connection, hostile):
    watcher = RevocationWatcher(connection, lambda: pki.anchors)
    await watcher.start(5)
    await keyservice.revoke(7)
    await until(lambda: watcher.current().serials == {7}, 5)
    bad = {
        "rolled back": lambda: pki.crl(number=1, serials=[]),
        "stranger": lambda: TestAuthority().crl(number=99),
        "garbage": lambda: b"garbage",
    }[hostile]()
    await keyservice.publish(bad)
    await asyncio.sleep(0.3)
    assert watcher.current().serials == {7}
    pki.crl_number = 50
    await keyservice.publish(pki.crl(serials=[7, 8]))
    await until(lambda: watcher.current().serials == {7, 8}, 10)
    await watcher.stop()
