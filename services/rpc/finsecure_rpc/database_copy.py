"""A consistent copy of an SQLite database that others go on writing to."""

import sqlite3
from contextlib import closing
from pathlib import Path

from finsecure_crypto.errors import ConfigurationError, UnavailableError
from sqlalchemy import make_url


def sqlite_file(url: str) -> Path | None:
    """The file of a database URL; None when another machine's program keeps the database."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database is None:
        return None
    return Path(parsed.database)


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database as it is between two transactions; writers do not wait.

    Source: SQLite's online backup, https://sqlite.org/backup.html.

    Args:
        source: the database.
        target: a new file, which its owner alone can read.

    Raises:
        ConfigurationError: DATABASE_MISSING; FILE_EXISTS.
        UnavailableError: STORE_UNAVAILABLE; whoever owns the disks.
    """
    if not source.is_file():
        raise ConfigurationError("DATABASE_MISSING", f"there is no database {source}")
    try:
        target.touch(mode=0o600, exist_ok=False)
    except FileExistsError as error:
        raise ConfigurationError("FILE_EXISTS", f"{target} exists; name another folder") from error
    try:
        with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as copy:
            reading.backup(copy)
            # One file, without a log beside it that somebody could forget.
            copy.execute("PRAGMA journal_mode=DELETE")
            (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise _failed(source, target) from error
    if verdict != "ok":
        raise _failed(source, target)


def _failed(source: Path, target: Path) -> UnavailableError:
    return UnavailableError(
        "STORE_UNAVAILABLE",
        f"{source} could not be copied whole to {target}: look at both disks, remove the copy, "
        "then try again",
    )
