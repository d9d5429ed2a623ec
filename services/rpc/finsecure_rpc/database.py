"""One database, one writer: transactions run one after another on a thread of their own.

SQLite is the default: write-ahead log, every commit synced, foreign keys enforced. PostgreSQL is
for operators. On both, transactions of all processes exclude each other, and what a transaction
wrote is on disk when `run` returns. Transactions that wait at the same time are committed together
(group commit): each is still whole or absent, and only the wait for the disk is shared.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from finsecure_crypto.errors import ConfigurationError, InvalidArgumentError, UnavailableError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.pool import StaticPool

Result = TypeVar("Result")
_BUSY_TIMEOUT_MS = 10_000
_CONNECT_TIMEOUT_S = 10
_MOST_GROUPED = 64
_WRITER_LOCK = 0x66696E73  # one for everybody who writes to a database
_BROKEN = (OperationalError, InterfaceError)
"""What the database raises when it fails, rather than the statement."""


@dataclass(frozen=True)
class _Job:
    """A transaction that waits for its turn."""

    transaction: Callable[[Connection], Any]
    outcome: Future[Any] = field(default_factory=Future)


class Database:
    """An engine with its writer thread.

    Attributes:
        engine: for migrations and reading tools; services use `run`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()

    def run_sync(self, transaction: Callable[[Connection], Result]) -> Result:
        """Run a transaction on the calling thread; for start-up and commands.

        Raises:
            UnavailableError: STORE_UNAVAILABLE when the database cannot be written or is locked
                by others; nothing was changed then.
            InvalidArgumentError: VALUE_NOT_STORABLE; whoever gave the value.
        """
        try:
            with self._lock, self.engine.begin() as connection:
                return transaction(connection)
        except _BROKEN as error:
            raise UnavailableError(
                "STORE_UNAVAILABLE",
                "The database cannot be used now (disk full, locked, out of reach, or damaged): "
                "look at it and its disk, then try again.",
            ) from error
        except DataError as error:
            raise _not_storable() from error

    async def run(self, transaction: Callable[[Connection], Result]) -> Result:
        """Run a transaction off the event loop; it is committed when this returns.

        It may share its commit with others, so it must touch nothing but the database. A caller
        that is cancelled meanwhile does not know whether it was committed, as after any lost
        reply: the request id, or the idempotence of the message, settles it.

        Raises:
            UnavailableError: STORE_UNAVAILABLE; InvalidArgumentError: VALUE_NOT_STORABLE; as in
                `run_sync`.
        """
        job = _Job(transaction)
        self._waiting.append(job)
        if len(self._waiting) == 1:  # otherwise a turn is due already
            self._thread.submit(self._run_waiting)
        result: Result = await asyncio.wrap_future(job.outcome)
        return result

    def _run_waiting(self) -> None:
        """Run all that waits, in groups of one commit each."""
        while self._waiting:
            jobs: list[_Job] = []
            while self._waiting and len(jobs) < _MOST_GROUPED:
                jobs.append(self._waiting.popleft())
            # A caller that was cancelled before its turn does not want it any more.
            self._run_jobs([job for job in jobs if job.outcome.set_running_or_notify_cancel()])

    def _run_jobs(self, jobs: list[_Job]) -> None:
        try:
            if len(jobs) == 1:
                jobs[0].outcome.set_result(self.run_sync(jobs[0].transaction))
            elif jobs:
                for job, (result, error) in zip(jobs, self._run_group(jobs), strict=True):
                    if error is None:
                        job.outcome.set_result(result)
                    else:
                        job.outcome.set_exception(error)
        except BaseException as error:
            for job in jobs:
                if not job.outcome.done():
                    job.outcome.set_exception(error)

    def _run_group(self, jobs: list[_Job]) -> list[tuple[Any, Exception | None]]:
        """Run each transaction in a savepoint of one; when the commit fails, none has happened."""

        def together(connection: Connection) -> list[tuple[Any, Exception | None]]:
            outcomes: list[tuple[Any, Exception | None]] = []
            for job in jobs:
                try:
                    with connection.begin_nested():
                        outcomes.append((job.transaction(connection), None))
                except _BROKEN:
                    raise  # nobody can go on
                except DataError:  # of this one alone
                    outcomes.append((None, _not_storable()))
                except Exception as error:
                    outcomes.append((None, error))
            return outcomes

        return self.run_sync(together)

    def close(self) -> None:
        """Finish what is queued and close the database."""
        self._thread.shutdown(wait=True)
        self.engine.dispose()


def _not_storable() -> InvalidArgumentError:
    """The error for what a database does not store, such as PostgreSQL no NUL in a text."""
    return InvalidArgumentError(
        "VALUE_NOT_STORABLE",
        "A value of the request cannot be stored: leave out control characters and what is too "
        "long.",
    )


def open_database(url: str) -> Database:
    """Open a database by its URL, `sqlite:////absolute/path.db` or `postgresql://user@host/name`.

    Raises:
        ConfigurationError: DATABASE_URL_INVALID; the fault of the configuration.
        UnavailableError: STORE_UNAVAILABLE when it cannot be opened.
    """
    try:
        engine = _engine(make_url(url))
    except (ArgumentError, ImportError, SQLAlchemyError) as error:
        # The URL may hold a password, so it is not repeated.
        raise ConfigurationError(
            "DATABASE_URL_INVALID",
            "The database URL is not usable: write it like sqlite:////absolute/path.db, or "
            "postgresql://user@host/name after `pip install finsecure[postgres]`.",
        ) from error
    database = Database(engine)
    try:
        database.run_sync(lambda connection: connection.exec_driver_sql("SELECT 1"))
    except BaseException:
        database.close()
        raise
    return database


def open_own_database(url: str) -> Database:
    """Open a database that a service may have to make first, with the folder of an SQLite file.

    Raises:
        ConfigurationError, UnavailableError: as `open_database`.
    """
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return open_database(url)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        options: dict[str, Any] = {}
        if url.database in (None, "", ":memory:"):
            options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        engine = create_engine(url, **options)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
        return engine
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername != "postgresql+psycopg":
        raise ArgumentError("neither SQLite nor PostgreSQL")
    # READ COMMITTED is right because transactions exclude each other: a transaction's snapshot
    # must be taken after it got the lock, not when it asked for it.
    engine = create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_S},
    )
    event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "begin", _take_writer_lock)
    return engine


def _prepare_sqlite(connection: Any, _: object) -> None:  # a DBAPI connection
    connection.isolation_level = None  # the driver's own BEGIN comes too late; see below
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    # Take the write lock at once: a reader that turns writer midway could only fail.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare_postgresql(connection: Any, _: object) -> None:  # a DBAPI connection
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")
        cursor.execute(f"SET lock_timeout = {_BUSY_TIMEOUT_MS}")
    connection.commit()


def _take_writer_lock(connection: Connection) -> None:
    # Held until the transaction ends, whatever ends it; the same order for all who write.
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
