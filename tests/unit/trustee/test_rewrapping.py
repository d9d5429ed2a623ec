"""A new wrapping key comes into use at once, beside a running trustee, and loses nothing."""

from pathlib import Path
from typing import NoReturn

import pytest
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.log_export import verify_export
from finsecure_crypto.log_keys import ANNOUNCE
from finsecure_crypto.secret import SecretBytes
from finsecure_keyservice.audit.mirror import started
from finsecure_keyservice.protection import kek
from finsecure_keyservice.protection.opening import create_kek, open_kek
from finsecure_keyservice.protection.settings import FileProtection, TokenProtection
from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.audit_key_rotation import rotate_audit_key
from finsecure_keyservice.trustee.config import Configuration
from finsecure_keyservice.trustee.rewrapping import rotate_key_encryption_key
from finsecure_keyservice.trustee.schema import AUDIT
from sqlalchemy import Connection, select

from tests.support.pki import TestAuthority, utc_now
from tests.support.softhsm import needs_softhsm, new_token
from tests.support.trustees import OPERATOR, Federation, Trustee, key, make_trustee


def configuration(trustee: Trustee, protection: FileProtection | TokenProtection) -> Configuration:
    return Configuration.model_validate(
        {
            "federation": "lending",
            "identity_dir": trustee.folder / "identity",
            "root": trustee.folder / "root.pem",
            "keyservice": "localhost:1",
            "keyservice_enrol": "localhost:2",
            "listen": "127.0.0.1:0",
            "database": f"sqlite:///{trustee.folder}/trustee.db",
            "protection": protection,
        }
    )


def versions(trustee: Trustee) -> set[int]:
    """Versions of the wrapping key under which anything lies in the database."""

    def read(connection: Connection) -> list[bytes]:
        sealing = store.sealing_key(connection)
        assert sealing is not None
        shares = store.wrapped_shares(connection).values()
        log_key = connection.execute(select(AUDIT.keys.c.handle)).scalar_one()
        return [*shares, sealing[1], store.log_secret(connection), log_key[1:]]

    return {kek.parse(wrapped).version for wrapped in trustee.database.run_sync(read)}


@pytest.fixture(params=["file", pytest.param("token", marks=needs_softhsm)])
def protection(request: pytest.FixtureRequest, tmp_path: Path) -> FileProtection | TokenProtection:
    if request.param == "file":
        return FileProtection(kind="file", key_file=tmp_path / "wrapping.key")
    return TokenProtection.model_validate(new_token(tmp_path).settings)


async def test_everything_is_wrapped_anew_beside_a_running_trustee(
    federation: Federation, tmp_path: Path, protection: FileProtection | TokenProtection
) -> None:
    running = make_trustee(tmp_path / "t", federation.pki, 1, kek=create_kek(protection))
    running.hold()
    card = await running.holdings.card(OPERATOR)
    settings = configuration(running, protection)
    assert versions(running) == {1}
    assert rotate_key_encryption_key(settings, utc_now()) == (2, 4)
    assert versions(running) == {2}
    assert running.events()[-1].action == "key-encryption-key.rotate"
    assert running.events()[-1].details == {"version": 2}
    # The running trustee finds the new version by itself, and its log goes on under its key.
    bank = federation.sum()
    partial = await running.open(bank)
    key().verify_partial(bank.total, 1, partial, bank.request.digest())
    assert (await running.holdings.card(OPERATOR)).sealing_key == card.sealing_key
    log_key = running.log_key
    again = running.restarted(open_kek(protection))
    assert again.log_key == log_key
    assert rotate_key_encryption_key(settings, utc_now()) == (3, 4)
    assert versions(again) == {3}
    again.database.close()


async def test_the_log_goes_over_to_another_key_beside_a_running_trustee(
    federation: Federation, tmp_path: Path
) -> None:
    protection = FileProtection(kind="file", key_file=tmp_path / "wrapping.key")
    running = make_trustee(tmp_path / "t", federation.pki, 1, kek=create_kek(protection))
    copy = tmp_path / "elsewhere.jsonl"
    mirror = await started(running.books, running.log, copy)
    assert mirror is not None
    former = running.log_key
    key = rotate_audit_key(configuration(running, protection), utc_now())
    await running.holdings.card(OPERATOR)
    assert running.log_key.serialise() == key != former.serialise()
    assert [event.action for event in running.events()] == [ANNOUNCE, "sealing-key.make"]
    await mirror.stop()
    lines = copy.read_bytes().splitlines()
    for known in (former, running.log_key):
        assert verify_export(lines, known).size == 3
    running.database.close()


async def test_a_crash_between_the_new_key_and_the_database_leaves_everything_readable(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protection = FileProtection(kind="file", key_file=tmp_path / "wrapping.key")
    trustee = make_trustee(tmp_path / "t", federation.pki, 1, kek=create_kek(protection))
    trustee.hold()
    await trustee.holdings.card(OPERATOR)
    settings = configuration(trustee, protection)

    def died(*_: object) -> NoReturn:
        raise SystemExit(137)

    for step in ("set_share", "set_sealing_seed", "set_log_secret"):
        with monkeypatch.context() as dying:
            dying.setattr(store, step, died)
            with pytest.raises(SystemExit):
                rotate_key_encryption_key(settings, utc_now())
        assert versions(trustee) == {1}
    trustee = trustee.restarted(open_kek(protection))
    await trustee.open(federation.sum())
    assert rotate_key_encryption_key(settings, utc_now()) == (5, 4)
    assert versions(trustee) == {5}
    trustee.database.close()


async def test_a_secret_that_does_not_open_stops_it_and_nothing_is_changed(
    tmp_path: Path,
) -> None:
    protection = FileProtection(kind="file", key_file=tmp_path / "wrapping.key")
    trustee = make_trustee(tmp_path / "t", TestAuthority(), 1, kek=create_kek(protection))
    trustee.hold()
    await trustee.holdings.card(OPERATOR)
    (name,) = trustee.database.run_sync(store.wrapped_shares)
    moved = trustee.kek.wrap(SecretBytes(bytes(32)), b"elsewhere")
    trustee.database.run_sync(lambda c: store.set_share(c, name, moved))
    before = len(trustee.events())
    with pytest.raises(IntegrityError, match="WRAPPED_KEY_REJECTED"):
        rotate_key_encryption_key(configuration(trustee, protection), utc_now())
    assert versions(trustee) == {1}
    assert len(trustee.events()) == before
    trustee.database.close()
