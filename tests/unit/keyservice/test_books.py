"""Transactions and the news that follow: nobody can hang up between the two."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from finsecure_crypto.errors import AuthenticationError, UnavailableError
from finsecure_keyservice.books import Books, open_books
from finsecure_keyservice.enrolment import Issued
from finsecure_keyservice.feed import RevocationFeed
from finsecure_keyservice.members import create_member, get_member
from finsecure_keyservice.records import MemberState
from finsecure_keyservice.revocation import rebuild_list
from finsecure_rpc.database import Database, open_database
from sqlalchemy import Connection

from tests.support.keyservice import (
    DOMAIN,
    FixedAuthorities,
    MovableClock,
    authority,
    enrolment,
    issuer,
    requests,
    store,
    trail,
)
from tests.support.postgresql import DATABASES, needs_postgresql, new_database

HOUR = timedelta(hours=1)


@pytest.fixture(params=DATABASES)
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    database = open_database("sqlite://" if request.param == "sqlite" else new_database())
    database.run_sync(lambda connection: open_books(connection, DOMAIN))
    yield database
    database.close()


async def test_a_caller_who_hangs_up_does_not_keep_a_revocation_secret(
    database: Database,
) -> None:
    clock = MovableClock()
    feed = RevocationFeed(clock)
    books = Books(database, feed, FixedAuthorities())
    started, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(connection: Connection) -> None:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        rebuild_list(store(connection), authority(), clock(), HOUR)

    caller = asyncio.create_task(books.transact(slow))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    with pytest.raises(AuthenticationError, match="REVOCATION_LIST_STALE"):
        feed.current()
    go_on.set()
    await asyncio.wait_for(_list_of(feed), 10)
    assert feed.current().number == 1


async def _list_of(feed: RevocationFeed) -> None:
    while True:
        try:
            feed.current()
        except AuthenticationError:
            await asyncio.sleep(0.01)
        else:
            return


async def test_lists_are_renewed_at_half_life_and_when_the_clock_is_set_back(
    database: Database,
) -> None:
    clock = MovableClock()
    feed = RevocationFeed(clock)
    books = Books(database, feed, FixedAuthorities())
    expected = {timedelta(0): 1, HOUR * 0.4: 1, HOUR * 0.6: 2, HOUR * 0.7: 2, HOUR * 5: 3}
    start = clock.now
    for after, number in expected.items():
        clock.now = start + after
        await books.refresh(clock(), HOUR, trail)
        assert feed.current().number == number
    clock.now = start
    await books.refresh(clock(), HOUR, trail)
    assert feed.current().number == 4


async def test_a_stale_list_is_given_to_nobody(database: Database) -> None:
    clock = MovableClock()
    feed = RevocationFeed(clock)
    await Books(database, feed, FixedAuthorities()).refresh(clock(), HOUR, trail)
    watch = feed.watch()
    clock.move(minutes=61)
    with pytest.raises(AuthenticationError, match="REVOCATION_LIST_STALE"):
        feed.current()
    with pytest.raises(AuthenticationError, match="REVOCATION_LIST_STALE"):
        await anext(watch)


async def test_watchers_get_the_newest_list_and_skip_what_they_missed(database: Database) -> None:
    clock = MovableClock()
    feed = RevocationFeed(clock)
    books = Books(database, feed, FixedAuthorities())
    await books.refresh(clock(), HOUR, trail)
    watch = feed.watch()
    first, _ = await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    assert not waiting.done()
    for _ in range(3):
        clock.move(minutes=40)
        await books.refresh(clock(), HOUR, trail)
    second, _ = await asyncio.wait_for(waiting, 5)
    third, believed = await asyncio.wait_for(anext(watch), 5)
    assert len({first, second, third}) == 3
    assert believed.anchors == authority().anchors
    assert third == feed.current().der  # the fourth list: the third was skipped
    assert feed.current().number == 4
    last = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    assert not last.done()
    last.cancel()


async def test_a_full_disk_loses_nothing_and_says_so(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/keyservice.db")
    clock = MovableClock()
    books = Books(database, RevocationFeed(clock), FixedAuthorities())

    def prepare(connection: Connection) -> str:
        open_books(connection, DOMAIN)
        name = "operators/alice"
        return create_member(store(connection), issuer(), name, "", clock())[1].expose()

    def limit_pages(connection: Connection, more: int) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + more}")

    key, asked = await books.transact(prepare), requests()

    def enrol(connection: Connection) -> Issued:
        return enrolment().enrol(store(connection), key, asked, clock())

    def fill_and_enrol(connection: Connection) -> None:
        enrol(connection)
        for number in range(1000):
            name = f"operators/bob-{number}"
            create_member(store(connection), issuer(), name, "x" * 200, clock())

    await books.transact(lambda connection: limit_pages(connection, 0))
    with pytest.raises(UnavailableError, match="STORE_UNAVAILABLE"):
        await books.transact(fill_and_enrol)
    assert await books.transact(_state) == (0, MemberState.INVITED)
    await books.transact(lambda connection: limit_pages(connection, 1000))
    issued = await books.transact(enrol)
    assert (await books.transact(enrol)).tls.der == issued.tls.der
    database.close()


@needs_postgresql
async def test_a_full_disk_under_postgresql_loses_nothing_and_says_so() -> None:
    database = open_database(new_database())
    clock = MovableClock()
    books = Books(database, RevocationFeed(clock), FixedAuthorities())
    name = "operators/alice"

    def prepare(connection: Connection) -> str:
        open_books(connection, DOMAIN)
        key = create_member(store(connection), issuer(), name, "", clock())[1].expose()
        # What the server says when its disk is full, at the last statement of an enrolment.
        connection.exec_driver_sql(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE "
            "'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER full_disk BEFORE INSERT ON audit_events FOR EACH ROW "
            "WHEN (convert_from(NEW.leaf, 'UTF8') LIKE '%%member.enrol%%') "
            "EXECUTE FUNCTION full_disk()"
        )
        return key

    def make_room(connection: Connection) -> None:
        connection.exec_driver_sql("DROP TRIGGER full_disk ON audit_events")

    key, asked = await books.transact(prepare), requests()

    def enrol(connection: Connection) -> Issued:
        return enrolment().enrol(store(connection), key, asked, clock())

    with pytest.raises(UnavailableError, match="STORE_UNAVAILABLE"):
        await books.transact(enrol)
    assert await books.transact(_state) == (0, MemberState.INVITED)
    await books.transact(make_room)
    issued = await books.transact(enrol)
    assert (await books.transact(enrol)).tls.der == issued.tls.der
    database.close()


def _state(connection: Connection) -> tuple[int, MemberState]:
    books = store(connection)
    return len(books.certificates("", None, 10)), get_member(books, "operators/alice").state
