"""Copies of a key service: taken while it runs, put back into empty places.

A copy holds the database, the root certificate and the wrapped secrets, by their names, and nothing
else that may lie beside them: never the key-encryption key, the root's key or an API key. The
service's own identity is not in it, because a key service without one makes one.
"""

import hashlib
import hmac
import os
import shutil
from collections.abc import Set
from datetime import datetime
from pathlib import Path

from finsecure_crypto.errors import ConfigurationError, IntegrityError
from finsecure_rpc.database import open_database
from finsecure_rpc.database_copy import copy_sqlite, sqlite_file
from finsecure_rpc.durable import sync_folder, write_file
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Connection

from finsecure_keyservice.audit.log import AuditLog
from finsecure_keyservice.books import check_books
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.protection.opening import open_vault
from finsecure_keyservice.protection.secret_files import CLEAR, SecretFiles, read_sealed
from finsecure_keyservice.schema import AUDIT
from finsecure_keyservice.state import StateFolder

_MANIFEST = "manifest.json"
_DATABASE = "database.db"
_STATE = "state"
_BLOCK = 1 << 20


class Manifest(BaseModel):
    """What a copy holds; `manifest.json` in its folder.

    It tells a copy that was damaged or put together from two. Whoever can write to the folder can
    write another one: the audit log's second copy is what convicts that.

    Attributes:
        domain: whose copy it is.
        time: when it was taken.
        events: length of the audit log in the copied database, None where it is not among the
            files.
        files: SHA-256 of each file in hexadecimal, by its path in the folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: str
    time: datetime
    events: int | None
    files: dict[str, str]


def back_up(configuration: Configuration, folder: Path, now: datetime) -> Manifest:
    """Copy a key service, which may be running, into a new folder.

    Raises:
        ConfigurationError: BACKUP_EXISTS; what `StateFolder.open` and `check_books` raise.
        UnavailableError: STORE_UNAVAILABLE.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(
            "BACKUP_EXISTS", f"{folder} is not empty; a copy needs a folder of its own"
        )
    state = StateFolder(configuration.state_dir)
    if configuration.seal is None:
        state.open(configuration.protected_by)
    else:  # a copy is nothing that operators should have to come together for
        read_sealed(configuration.protected_by.secret_file)
    database = sqlite_file(configuration.database)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    # The database first: what lies beside it is wrapped by the same key-encryption key or by a
    # newer version of it, and that has all of its versions.
    events, names = None, []
    if database is not None:
        copy_sqlite(database, folder / _DATABASE)
        events = _count_events(f"sqlite:///{(folder / _DATABASE).resolve()}", configuration.domain)
        names.append(_DATABASE)
    (folder / _STATE).mkdir(mode=0o700)
    for path, content in state.read().items():
        names.append(_state_name(path))
        write_file(folder / names[-1], content)
    files = {name: _digest(folder / name) for name in names}
    manifest = Manifest(domain=configuration.domain, time=now, events=events, files=files)
    write_file(folder / _MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")
    return manifest


def restore(configuration: Configuration, folder: Path, files: SecretFiles = CLEAR) -> int:
    """Put a copy where the configuration says, which has to be empty there.

    Returns:
        How many events the audit log has.

    Raises:
        ConfigurationError: RESTORE_OCCUPIED; KEK_MISSING and whatever else `StateFolder.open` says
            when the key-encryption key is not there or another; DOMAIN_MISMATCH; RESTORE_DATABASE;
            NOT_INITIALISED where PostgreSQL's part was not restored before.
        IntegrityError: BACKUP_DAMAGED, BACKUP_FOREIGN_FILE; the copy's fault.
        UnavailableError: STORE_UNAVAILABLE.
    """
    places = _places(configuration)
    manifest = _read_manifest(folder, {_DATABASE, *places})
    if manifest.domain != configuration.domain:
        raise ConfigurationError(
            "DOMAIN_MISMATCH",
            f"{folder} is a copy of the key service of {manifest.domain}; correct `domain`",
        )
    database = sqlite_file(configuration.database)
    if database is not None and _DATABASE not in manifest.files:
        raise ConfigurationError(
            "RESTORE_DATABASE",
            f"{folder} was taken from a key service on PostgreSQL; restore its dump with "
            "pg_restore, and name that in `database`",
        )
    if database is None and _DATABASE in manifest.files:
        raise ConfigurationError(
            "RESTORE_DATABASE",
            f"{folder} was taken from a key service on SQLite; name a new file in `database`",
        )
    if not places.keys() <= manifest.files.keys():
        raise _damaged(folder, "its manifest lacks a file")
    open_vault(configuration.protected_by, files)
    beside = [] if database is None else _logs_of(database)
    for path in (*places.values(), *beside):
        if path.exists():
            raise ConfigurationError(
                "RESTORE_OCCUPIED",
                f"{path} exists; nothing was changed. Move away what is there: it is evidence",
            )
    for name, target in places.items():
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if name == _DATABASE:
            _put(folder / name, target)
        else:
            mode = 0o644 if target.suffix == ".pem" else 0o600
            write_file(target, (folder / name).read_bytes(), mode=mode)
    configuration.state_dir.chmod(0o700)
    StateFolder(configuration.state_dir).open(configuration.protected_by, files)
    return _count_events(configuration.database, configuration.domain)


def _places(configuration: Configuration) -> dict[str, Path]:
    """Where a copy's files belong, by their names in it; a copy has no others."""
    lasting = StateFolder(configuration.state_dir).lasting
    places = {_state_name(path): path for path in lasting}
    database = sqlite_file(configuration.database)
    return places if database is None else {_DATABASE: database, **places}


def _state_name(path: Path) -> str:
    return f"{_STATE}/{path.name}"


def _read_manifest(folder: Path, known: Set[str]) -> Manifest:
    """Read a copy's manifest and compare each file with it; reads nothing outside the folder.

    Args:
        folder: of the copy.
        known: names that files of a copy may have.

    Raises:
        IntegrityError: BACKUP_DAMAGED, BACKUP_FOREIGN_FILE.
    """
    try:
        manifest = Manifest.model_validate_json(_inside(folder, _MANIFEST).read_bytes())
        foreign = manifest.files.keys() - known
        if foreign:
            raise IntegrityError(
                "BACKUP_FOREIGN_FILE",
                f"{folder}: its manifest names {min(foreign)[:80]!r}, which no copy has; nothing "
                "was changed. Use another copy, and find out who wrote to this one",
            )
        found = {name: _digest(_inside(folder, name)) for name in manifest.files}
    except (OSError, ValidationError) as error:
        raise _damaged(folder, "it has no whole manifest or lacks a file of it") from error
    for name, digest in manifest.files.items():
        if not hmac.compare_digest(found[name].encode(), digest.encode()):
            raise _damaged(folder, f"{name} is not what was copied")
    return manifest


def _inside(folder: Path, name: str) -> Path:
    """A file that lies in a copy itself, not behind a link."""
    path = folder / name
    if path.resolve() != folder.resolve() / name or not path.is_file():
        raise _damaged(folder, f"{name} is a link, or is no file")
    return path


def _count_events(url: str, domain: str) -> int:
    """Length of the audit log in a database of this domain."""
    database = open_database(url)

    def work(connection: Connection) -> int:
        check_books(connection, domain)
        return AuditLog(AUDIT).edge(connection).size

    try:
        return database.run_sync(work)
    finally:
        database.close()


def _damaged(folder: Path, what: str) -> IntegrityError:
    return IntegrityError("BACKUP_DAMAGED", f"{folder}: {what}; use another copy")


def _logs_of(database: Path) -> list[Path]:
    """Files of an earlier database that SQLite would take for this one's."""
    return [database.with_name(database.name + ending) for ending in ("-wal", "-shm", "-journal")]


def _put(source: Path, target: Path) -> None:
    """Copy a file that may be large; it appears whole or not at all."""
    aside = target.with_name(f".{target.name}.restoring")
    aside.unlink(missing_ok=True)
    aside.touch(mode=0o600)
    shutil.copyfile(source, aside)
    with aside.open("rb+") as file:
        os.fsync(file.fileno())
    aside.replace(target)
    sync_folder(target.parent)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
