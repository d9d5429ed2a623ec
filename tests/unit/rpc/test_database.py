import asyncio
import threading

import pytest
from finsecure_crypto.errors import ConfigurationError, InvalidArgumentError, UnavailableError
from finsecure_rpc import database as module
from finsecure_rpc.database import open_database
from sqlalchemy import Column, Integer, MetaData, String, Table, func, insert, select
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from tests.support.postgresql import DATABASES, needs_postgresql, new_database

METADATA = MetaData()
NUMBERS = Table("numbers", METADATA, Column("n", Integer, primary_key=True))


@pytest.fixture(params=DATABASES)
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/test.db" if request.param == "sqlite" else new_database()


@pytest.fixture
def database(url):
    opened = open_database(url)
    opened.run_sync(METADATA.create_all)
    yield opened
    opened.close()


def add(n):
    return lambda connection: connection.execute(insert(NUMBERS).values(n=n))


def numbers(connection):
    return sorted(connection.scalars(select(NUMBERS.c.n)))


async def test_sqlite_is_durable_and_strict(tmp_path):
    database = open_database(f"sqlite:///{tmp_path}/test.db")

    def pragmas(connection):
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await database.run(pragmas) == ["wal", 2, 1, 10_000]
    database.close()


@needs_postgresql
async def test_postgresql_is_durable_and_its_transactions_exclude_each_other():
    database = open_database(new_database())

    def settings(connection):
        names = ("synchronous_commit", "lock_timeout", "transaction_isolation")
        return [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]

    assert await database.run(settings) == ["on", "10s", "read committed"]
    database.close()


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


async def test_what_was_run_is_seen_by_another_process_at_once(database, url):
    await database.run(add(5))
    other = open_database(url)
    assert other.run_sync(numbers) == [5]
    other.close()


async def test_writers_of_several_processes_lose_nothing(database, url):
    other = open_database(url)

    def count_up(connection):
        highest = connection.scalars(select(func.max(NUMBERS.c.n))).one() or 0
        add(highest + 1)(connection)

    await asyncio.gather(*(each.run(count_up) for _ in range(20) for each in (database, other)))
    assert await database.run(numbers) == list(range(1, 41))
    other.close()


async def test_a_group_commits_its_good_transactions_and_no_bad_one(database):
    gate, entered = threading.Event(), threading.Event()

    def hold(connection):
        entered.set()
        gate.wait(30)

    def fails(connection):
        add(100)(connection)
        raise RuntimeError("half-way")

    def cannot_be_stored(connection):
        raise DataError("INSERT", {}, Exception("a NUL in a text"))

    held = asyncio.create_task(database.run(hold))
    await asyncio.to_thread(entered.wait, 30)
    group = [
        database.run(transaction)
        for transaction in (add(1), fails, add(2), add(1), cannot_be_stored)
    ]
    outcomes = asyncio.gather(*group, return_exceptions=True)
    gone = asyncio.create_task(database.run(add(3)))
    await asyncio.sleep(0)
    gone.cancel()  # before its turn: it is not run at all
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.sleep(0)
    gate.set()
    first, failed, second, twice, refused = await outcomes
    await held
    assert not isinstance(first, Exception)
    assert isinstance(failed, RuntimeError)
    assert not isinstance(second, Exception)
    assert isinstance(twice, IntegrityError)
    assert isinstance(refused, InvalidArgumentError)
    assert await database.run(numbers) == [1, 2]


async def test_a_group_whose_commit_fails_has_not_happened(database):
    gate, entered = threading.Event(), threading.Event()

    def hold(connection):
        entered.set()
        gate.wait(30)

    def disk_full(connection):
        raise OperationalError("INSERT", {}, Exception("disk full"))

    held = asyncio.create_task(database.run(hold))
    await asyncio.to_thread(entered.wait, 30)
    outcomes = asyncio.gather(database.run(add(1)), database.run(disk_full), return_exceptions=True)
    await asyncio.sleep(0)
    gate.set()
    for outcome in await outcomes:
        assert isinstance(outcome, UnavailableError)
        assert outcome.code == "STORE_UNAVAILABLE"
    await held
    assert await database.run(numbers) == []


@needs_postgresql
async def test_postgresql_that_went_away_comes_back():
    database = open_database(new_database())
    database.run_sync(METADATA.create_all)

    def cut_off(connection):
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(UnavailableError, match="STORE_UNAVAILABLE"):
        await database.run(cut_off)
    await database.run(add(1))
    assert await database.run(numbers) == [1]
    database.close()


@needs_postgresql
async def test_what_postgresql_cannot_store_is_the_callers_fault():
    names = Table("names", MetaData(), Column("name", String(3)))
    database = open_database(new_database())
    database.run_sync(names.metadata.create_all)
    for text in ("a\0b", "long"):
        with pytest.raises(InvalidArgumentError, match="VALUE_NOT_STORABLE"):
            await database.run(
                lambda connection, text=text: connection.execute(insert(names).values(name=text))
            )
    database.close()


async def test_a_locked_database_is_unavailable(url, monkeypatch):
    monkeypatch.setattr(module, "_BUSY_TIMEOUT_MS", 50)
    opened, other = open_database(url), open_database(url)
    opened.run_sync(METADATA.create_all)
    with other.engine.begin(), pytest.raises(UnavailableError, match="STORE_UNAVAILABLE"):
        await opened.run(add(1))
    await opened.run(add(1))
    other.close()
    opened.close()


async def test_memory_holds_one_database():
    opened = open_database("sqlite://")
    opened.run_sync(METADATA.create_all)
    await opened.run(add(1))
    assert opened.run_sync(numbers) == [1]
    opened.close()


def test_a_wrong_url_is_told_without_its_password(tmp_path):
    for url in ("nonsense", "nosuchdb://user:hunter2@host/x", "mysql://u:hunter2@h/x"):
        with pytest.raises(ConfigurationError, match="DATABASE_URL_INVALID") as caught:
            open_database(url)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(UnavailableError, match="STORE_UNAVAILABLE"):
        open_database(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}")
