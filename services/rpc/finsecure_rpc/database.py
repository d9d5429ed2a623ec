"""One database, one writer: transactions run one after another on a thread of their own.

SQLite is the default: write-ahead log, every commit synced, foreign keys enforced. What a
transaction wrote is on disk when `run` returns.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from finsecure_crypto.errors import ConfigurationError, UnavailableError
from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

Result = TypeVar("Result")
_BUSY_TIMEOUT_MS = 10_000


class Database:
    """An engine with its writer thread.

    Attributes:
        engine: for migrations and reading tools; services use `run`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._lock = threading.Lock()

    def create(self, metadata: MetaData) -> None:
        """Create the tables that are missing."""
        self.run_sync(metadata.create_all)

    def run_sync(self, transaction: Callable[[Connection], Result]) -> Result:
        """Run a transaction on the calling thread; for start-up and commands.

        Raises:
            UnavailableError: STORE_UNAVAILABLE when the database cannot be written or is locked
                by others; nothing was changed then.
        """
        try:
            with self._lock, self.engine.begin() as connection:
                return transaction(connection)
        except OperationalError as error:
            raise UnavailableError(
                "STORE_UNAVAILABLE",
                "The database cannot be used now (disk full, locked, or damaged): look at its "
                "disk, then try again.",
            ) from error

    async def run(self, transaction: Callable[[Connection], Result]) -> Result:
        """Run a transaction off the event loop; it is committed when this returns.

        A caller that is cancelled meanwhile does not know whether it was committed, as after any
        lost reply: the request id, or the idempotence of the message, settles it.

        Raises:
            UnavailableError: STORE_UNAVAILABLE, as in `run_sync`.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self.run_sync, transaction)

    def close(self) -> None:
        """Finish what is queued and close the database."""
        self._thread.shutdown(wait=True)
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open a database by its SQLAlchemy URL, such as `sqlite:////var/lib/finsecure/keys.db`.

    Raises:
        ConfigurationError: DATABASE_URL_INVALID; the fault of the configuration.
        UnavailableError: STORE_UNAVAILABLE when it cannot be opened.
    """
    in_memory = url in ("sqlite://", "sqlite:///:memory:")
    options: dict[str, Any] = {}
    if in_memory:
        options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    try:
        engine = create_engine(url, **options)
    except (ArgumentError, ImportError, SQLAlchemyError) as error:
        # The URL may hold a password, so it is not repeated.
        raise ConfigurationError(
            "DATABASE_URL_INVALID",
            "The database URL is not usable: write it like sqlite:////absolute/path.db.",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
    database = Database(engine)
    database.run_sync(lambda connection: connection.exec_driver_sql("SELECT 1"))
    return database


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
