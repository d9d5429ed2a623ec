"""Copies of a key service: whole, consistent, closed, and never put over anything."""

import hashlib
import json
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
from finsecure_crypto.errors import ConfigurationError, IntegrityError
from finsecure_keyservice.backup import back_up, restore
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.founding import found
from finsecure_keyservice.pepper_rotation import rotate_pepper
from finsecure_keyservice.serving import opened
from finsecure_keyservice.state import StateFolder

from tests.support.keyservice import START, MovableClock


def _configuration(folder: Path, **changes: object) -> Configuration:
    settings: dict[str, object] = {
        "domain": "finsecure.test",
        "listen": "127.0.0.1:0",
        "enrol_listen": "127.0.0.1:0",
        "state_dir": folder / "state",
        "database": str(folder / "state" / "keyservice.db"),
        **changes,
    }
    return Configuration.model_validate(settings)


@pytest.fixture
def original(tmp_path: Path) -> Configuration:
    configuration = _configuration(tmp_path / "original")
    found(configuration, "alice", "lending", None, START)
    return configuration


@pytest.fixture
def empty(tmp_path: Path, original: Configuration) -> Configuration:
    """An empty place that has nothing but the key-encryption key."""
    configuration = _configuration(tmp_path / "empty")
    configuration.state_dir.mkdir(parents=True)
    for name in ("key-encryption.key",):
        shutil.copy(original.state_dir / name, configuration.state_dir / name)
    return configuration


async def test_a_copy_of_a_running_service_is_whole_and_starts_elsewhere(
    tmp_path: Path, original: Configuration, empty: Configuration
) -> None:
    async with opened(original, MovableClock()):
        manifest = back_up(original, tmp_path / "copy", START)
    assert restore(empty, tmp_path / "copy") == manifest.events
    _, before = StateFolder(original.state_dir).open(original.protected_by)
    _, after = StateFolder(empty.state_dir).open(empty.protected_by)
    assert after.pepper.expose() == before.pepper.expose()
    assert stat.S_IMODE((empty.state_dir / "api-key.pepper").stat().st_mode) == 0o600
    assert stat.S_IMODE((empty.state_dir / "keyservice.db").stat().st_mode) == 0o600
    async with opened(empty, MovableClock()):
        pass
    assert (empty.state_dir / "identity" / "current").is_symlink()


def test_a_copy_holds_nothing_that_opens_it(tmp_path: Path, original: Configuration) -> None:
    manifest = back_up(original, tmp_path / "copy", START)
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o700
    for path in (tmp_path / "copy").rglob("*"):
        assert not path.is_file() or stat.S_IMODE(path.stat().st_mode) == 0o600
    assert manifest.files.keys() == {
        "database.db",
        "state/api-key.pepper",
        "state/audit.secret",
        "state/root.pem",
    }
    kek = (original.state_dir / "key-encryption.key").read_text().split()[1]
    content = b"".join(path.read_bytes() for path in (tmp_path / "copy").rglob("*.*"))
    for secret in (kek.encode(), bytes.fromhex(kek), b"PRIVATE KEY"):
        assert secret not in content


def test_a_copy_has_what_is_committed_and_nothing_else(
    tmp_path: Path, original: Configuration
) -> None:
    writer = sqlite3.connect(original.state_dir / "keyservice.db", isolation_level=None)
    writer.execute("CREATE TABLE notes (text)")
    writer.execute("INSERT INTO notes VALUES ('committed')")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO notes VALUES ('under way')")
    back_up(original, tmp_path / "copy", START)
    writer.execute("COMMIT")
    writer.close()
    copy = sqlite3.connect(tmp_path / "copy" / "database.db")
    assert copy.execute("SELECT text FROM notes").fetchall() == [("committed",)]
    copy.close()


def test_copies_are_not_put_over_each_other(tmp_path: Path, original: Configuration) -> None:
    back_up(original, tmp_path / "copy", START)
    with pytest.raises(ConfigurationError, match="BACKUP_EXISTS"):
        back_up(original, tmp_path / "copy", START)
    with pytest.raises(ConfigurationError, match="RESTORE_OCCUPIED"):
        restore(original, tmp_path / "copy")


@pytest.mark.parametrize("leftover", ["keyservice.db-wal", "keyservice.db-shm", "root.pem"])
def test_remains_of_an_earlier_service_stop_a_restore(
    tmp_path: Path, original: Configuration, empty: Configuration, leftover: str
) -> None:
    back_up(original, tmp_path / "copy", START)
    (empty.state_dir / leftover).write_bytes(b"")
    with pytest.raises(ConfigurationError, match="RESTORE_OCCUPIED"):
        restore(empty, tmp_path / "copy")
    assert not (empty.state_dir / "keyservice.db").exists()


def test_a_damaged_copy_is_not_put_back(
    tmp_path: Path, original: Configuration, empty: Configuration
) -> None:
    copy = tmp_path / "copy"
    back_up(original, copy, START)
    whole = (copy / "database.db").read_bytes()
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "database.db").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="BACKUP_DAMAGED"):
        restore(empty, copy)
    (copy / "database.db").write_bytes(whole)
    lacking = {name: digest for name, digest in manifest["files"].items() if "pepper" not in name}
    for files in (lacking, manifest["files"] | {"database.db": "\u00e9"}):
        (copy / "manifest.json").write_text(json.dumps(manifest | {"files": files}))
        with pytest.raises(IntegrityError, match="BACKUP_DAMAGED"):
            restore(empty, copy)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(IntegrityError, match="BACKUP_DAMAGED"):
        restore(empty, copy)
    assert not (empty.state_dir / "root.pem").exists()


@pytest.mark.parametrize(
    "name",
    [
        "state//{elsewhere}",
        "{elsewhere}",
        "state/../../elsewhere",
        "state/identity/current/tls.key",
        "state/key-encryption.key",
        "state/",
        "other/file",
    ],
)
def test_a_copy_plants_no_file_that_copies_do_not_have(
    tmp_path: Path, original: Configuration, empty: Configuration, name: str
) -> None:
    copy, elsewhere = tmp_path / "copy", tmp_path / "elsewhere"
    back_up(original, copy, START)
    name = name.format(elsewhere=elsewhere)
    if name.startswith("state/") and not name.endswith("/") and ".." not in name:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(b"planted")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(b"planted").hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match="BACKUP_FOREIGN_FILE"):
        restore(empty, copy)
    assert [path.name for path in empty.state_dir.iterdir()] == ["key-encryption.key"]
    assert not elsewhere.exists()


@pytest.mark.parametrize("name", ["database.db", "state/root.pem", "state", "manifest.json"])
def test_a_link_in_a_copy_is_not_followed(
    tmp_path: Path, original: Configuration, empty: Configuration, name: str
) -> None:
    copy = tmp_path / "copy"
    back_up(original, copy, START)
    (copy / name).rename(tmp_path / "behind")
    (copy / name).symlink_to(tmp_path / "behind")
    with pytest.raises(IntegrityError, match=r"link.*BACKUP_DAMAGED"):
        restore(empty, copy)
    assert not (empty.state_dir / "root.pem").exists()


def test_a_copy_has_no_file_beside_its_own_whatever_its_name(
    tmp_path: Path, original: Configuration
) -> None:
    folder = original.state_dir
    for name in ("ca.pem-key", "token.pin", "alice.key.txt", "old/api-key.pepper", "share-1"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "root.key", folder / name)
    assert back_up(original, tmp_path / "copy", START).files.keys() == {
        "database.db",
        "state/api-key.pepper",
        "state/audit.secret",
        "state/root.pem",
    }
    copied = (path for path in (tmp_path / "copy").rglob("*") if path.is_file())
    assert not [path for path in copied if b"PRIVATE KEY" in path.read_bytes()]


def test_a_copy_goes_back_to_the_kind_of_database_that_it_was_taken_from(
    tmp_path: Path, original: Configuration, empty: Configuration
) -> None:
    back_up(original, tmp_path / "copy", START)
    other = empty.model_copy(update={"database": "postgresql://finsecure@/keyservice"})
    with pytest.raises(ConfigurationError, match="RESTORE_DATABASE"):
        restore(other, tmp_path / "copy")


def test_the_pepper_of_a_restored_service_rotates_before_it_runs(
    tmp_path: Path, original: Configuration, empty: Configuration
) -> None:
    manifest = back_up(original, tmp_path / "copy", START)
    events = restore(empty, tmp_path / "copy")
    assert rotate_pepper(empty, START) == (1, 0)  # the operator's, which may be spent by now
    assert events == manifest.events
    _, before = StateFolder(original.state_dir).open(original.protected_by)
    _, after = StateFolder(empty.state_dir).open(empty.protected_by)
    assert after.pepper.expose() != before.pepper.expose()


def test_a_restore_without_the_key_encryption_key_changes_nothing(
    tmp_path: Path, original: Configuration, empty: Configuration
) -> None:
    back_up(original, tmp_path / "copy", START)
    (empty.state_dir / "key-encryption.key").unlink()
    with pytest.raises(ConfigurationError, match="KEK_MISSING"):
        restore(empty, tmp_path / "copy")
    assert not list(empty.state_dir.iterdir())


def test_a_copy_of_another_domain_is_not_put_back(
    tmp_path: Path, original: Configuration, empty: Configuration
) -> None:
    back_up(original, tmp_path / "copy", START)
    other = empty.model_copy(update={"domain": "other.test"})
    with pytest.raises(ConfigurationError, match="DOMAIN_MISMATCH"):
        restore(other, tmp_path / "copy")
