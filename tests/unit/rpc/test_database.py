import asyncio
import sqlite3
import threading

import pytest
from finsecure_crypto.errors import ConfigurationError, UnavailableError
from finsecure_rpc import database as module
from finsecure_rpc.database import open_database
from sqlalchemy import Column, Integer, MetaData, Table, insert, select

METADATA = MetaData()
NUMBERS = Table("numbers", METADATA, Column("n", Integer, primary_key=True))


@pytest.fixture
def database(tmp_path):
    opened = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    opened.create(METADATA)
    yield opened
    opened.close()


def add(n):
    return lambda connection: connection.execute(insert(NUMBERS).values(n=n))


def numbers(connection):
    return sorted(connection.scalars(select(NUMBERS.c.n)))


async def test_sqlite_is_durable_and_strict(database):
    def pragmas(connection):
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await database.run(pragmas) == ["wal", 2, 1, 10_000]


async def test_transactions_are_whole_or_absent(database):
    def fails(connection):
        add(1)(connection)
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        await database.run(fails)
    assert await database.run(numbers) == []
    await database.run(add(2))
    assert await database.run(numbers) == [2]


async def test_transactions_run_one_after_another_off_the_loop(database):
    def count_up(connection):
        assert threading.current_thread() is not threading.main_thread()
        highest = max(numbers(connection), default=0)
        add(highest + 1)(connection)

    await asyncio.gather(*(database.run(count_up) for _ in range(50)))
    assert await database.run(numbers) == list(range(1, 51))


async def test_what_was_run_is_seen_by_another_process_at_once(database, tmp_path):
    await database.run(add(5))
    with sqlite3.connect(tmp_path / "test.db") as other:
        assert other.execute("select n from numbers").fetchall() == [(5,)]
    other.close()


async def test_a_locked_database_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BUSY_TIMEOUT_MS", 50)
    path = tmp_path / "locked.db"
    opened = open_database(f"sqlite:///{path}")
    opened.create(METADATA)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match="STORE_UNAVAILABLE"):
        await opened.run(add(1))
    other.execute("ROLLBACK")
    other.close()
    await opened.run(add(1))
    opened.close()


async def test_memory_holds_one_database():
    opened = open_database("sqlite://")
    opened.create(METADATA)
    await opened.run(add(1))
    assert opened.run_sync(numbers) == [1]
    opened.close()


def test_a_wrong_url_is_told_without_its_password(tmp_path):
    for url in ("nonsense", "nosuchdb://user:hunter2@host/x"):
        with pytest.raises(ConfigurationError, match="DATABASE_URL_INVALID") as caught:
            open_database(url)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(UnavailableError, match="STORE_UNAVAILABLE"):
        open_database(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}")
