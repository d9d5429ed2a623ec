import threading
from datetime import timedelta

import pytest
from finsecure_crypto.errors import AuthenticationError, ConfigurationError
from finsecure_rpc import identity_store as module
from finsecure_rpc.durable import replace_link, write_file
from finsecure_rpc.identity_store import FILES, IdentityStore
from finsecure_rpc.requests import new_keys

from tests.support.pki import TestAuthority, make_authority, utc_now


@pytest.fixture
def pki():
    return TestAuthority()


@pytest.fixture
def credentials(pki):
    return lambda id_="bank-a", **validity: pki.credentials(
        pki.spiffe_id("client", id_), **validity
    )


def test_an_empty_folder_says_what_to_do(tmp_path):
    store = IdentityStore(tmp_path / "none")
    assert not store.exists()
    with pytest.raises(ConfigurationError, match="IDENTITY_MISSING"):
        store.current()


def test_the_folder_has_the_names_people_know(tmp_path, credentials, pki):
    store = IdentityStore(tmp_path / "identity")
    given = credentials()
    identity = store.save(given)
    assert store.exists()
    assert (tmp_path / "identity" / "root.pem").read_bytes() == pki.root.pem
    for name in FILES:
        assert (tmp_path / "identity" / name).is_file()
    assert identity.signing_key.public == given.signing_key.public
    assert identity.signing_certificate == given.signing_certificate
    assert identity.tls_key_pem == given.tls_key_pem
    assert identity.member == given.member
    assert identity.certified.spiffe_id == identity.signing.spiffe_id


def test_keys_are_for_the_owner_only(tmp_path, credentials):
    IdentityStore(tmp_path / "identity").save(credentials())
    for path in (tmp_path / "identity").rglob("*"):
        if path.is_dir():
            assert path.stat().st_mode & 0o077 == 0
        if path.name.endswith(".key"):
            assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_secret_is_printed(tmp_path, credentials):
    given = credentials()
    shown = repr(given) + repr(IdentityStore(tmp_path).save(given)) + repr(new_keys())
    assert "PRIVATE KEY" not in shown
    assert repr(given.signing_key.seed.expose()) not in shown


def test_a_renewal_is_seen_and_old_generations_go(tmp_path, credentials):
    store, other = IdentityStore(tmp_path), IdentityStore(tmp_path)
    for generation in range(1, 6):
        store.save(credentials())
        assert other.current().generation == generation
        assert other.current() is other.current()  # read once
    kept = sorted(path.name for path in (tmp_path / "generations").iterdir())
    assert kept == ["4", "5"]


def test_an_expired_identity_still_loads(tmp_path, credentials):
    now = utc_now()
    store = IdentityStore(tmp_path)
    store.save(credentials(not_before=now - timedelta(hours=3), not_after=now - timedelta(hours=2)))
    assert store.current().certified.not_after < now


@pytest.mark.parametrize("name", FILES)
def test_a_mixture_of_generations_is_refused(tmp_path, credentials, name):
    store = IdentityStore(tmp_path)
    store.save(credentials("bank-a"))
    first = (tmp_path / name).read_bytes()
    store.save(credentials("bank-b"))
    (tmp_path / "current" / name).write_bytes(first)
    fresh = IdentityStore(tmp_path)
    if name in ("bundle.pem", "member.json"):
        fresh.current()  # the same authority; and what is only for people
        return
    with pytest.raises(ConfigurationError, match="IDENTITY_DAMAGED"):
        fresh.current()


@pytest.mark.parametrize("name", ["root.pem", *FILES])
@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_damaged_file_is_told(tmp_path, credentials, name, content):
    IdentityStore(tmp_path).save(credentials())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match="IDENTITY_DAMAGED") as caught:
        IdentityStore(tmp_path).current()
    assert str(tmp_path) in caught.value.message


def test_what_does_not_fit_the_pinned_root_changes_nothing(tmp_path, credentials):
    store = IdentityStore(tmp_path)
    before = store.save(credentials())
    stranger = TestAuthority()
    with pytest.raises(ConfigurationError, match="IDENTITY_DAMAGED"):
        store.save(stranger.credentials(stranger.spiffe_id("client", "bank-a")))
    assert store.current() == before
    assert [path.name for path in (tmp_path / "generations").iterdir()] == ["1"]


@pytest.mark.parametrize("step", ["write_file", "sync_folder", "replace_link"])
def test_a_crash_at_any_step_leaves_the_old_identity(tmp_path, credentials, monkeypatch, step):
    store = IdentityStore(tmp_path)
    before = store.save(credentials())

    def crash(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, crash)
        with pytest.raises(KeyboardInterrupt):
            store.save(credentials())
    assert IdentityStore(tmp_path).current() == before
    after = store.save(credentials())
    assert IdentityStore(tmp_path).current() == after


def test_readers_never_see_a_mixture(tmp_path, credentials):
    writer, stop, failures = IdentityStore(tmp_path), threading.Event(), []
    writer.save(credentials())

    def read():
        while not stop.is_set():
            try:
                IdentityStore(tmp_path).current()
            except ConfigurationError as error:
                failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(20):
        writer.save(credentials())
    stop.set()
    thread.join()
    assert failures == []


def test_a_failed_write_leaves_no_temporary_file(tmp_path, monkeypatch):
    write_file(tmp_path / "a", b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_file(tmp_path / "a", b"new")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    replace_link(tmp_path / "b", tmp_path / "a")
    replace_link(tmp_path / "b", tmp_path / "c")
    assert (tmp_path / "b").readlink() == tmp_path / "c"


def test_only_authorities_of_the_pinned_root_are_taken_on(tmp_path, credentials, pki):
    store = IdentityStore(tmp_path)
    before = store.save(credentials())
    second = make_authority("second", pki.domain, pki.root)
    both = store.adopt((second.der, pki.intermediate.der))
    assert both.generation == before.generation + 1
    assert set(both.anchors.intermediates) == {pki.intermediate.der, second.der}
    assert both.certified == before.certified
    # The same again changes nothing, in whatever order.
    assert store.adopt((pki.intermediate.der, second.der)).generation == both.generation
    stranger = TestAuthority(pki.domain)
    foreign = make_authority("foreign", "other.internal", pki.root)
    for hostile in (stranger.intermediate.der, foreign.der, pki.root.der, b"\x30\x00"):
        with pytest.raises(AuthenticationError):
            store.adopt((pki.intermediate.der, hostile))
    # Whoever's own authority is gone has to enrol again, and is told so instead of losing files.
    with pytest.raises(ConfigurationError, match="IDENTITY_DAMAGED"):
        store.adopt((second.der,))
    assert store.current().generation == both.generation
