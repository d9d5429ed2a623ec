"""A command on the trustee's own machine: what it opens, and the transaction it decides in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from finsecure_crypto.certificates import SpiffeId
from finsecure_rpc.identity_store import IdentityStore
from sqlalchemy import Connection

from finsecure_keyservice.audit.signed_log import SignedLog
from finsecure_keyservice.audit.trail import Caller, Trail
from finsecure_keyservice.protection.kek import KeyEncryptionKey
from finsecure_keyservice.protection.opening import open_kek
from finsecure_keyservice.trustee.books import Books, opened_books
from finsecure_keyservice.trustee.config import Configuration

T = TypeVar("T")


@dataclass(frozen=True)
class LocalCommand:
    """Works on the database itself; the trustee may be running.

    Attributes:
        name: as it is typed; the events of what it decides have it.
        own: whose machine it is.
        custody: wraps the trustee's secrets.
        books: the database.
        log: of the trustee's decisions.
    """

    name: str
    own: SpiffeId
    custody: KeyEncryptionKey
    books: Books
    log: SignedLog

    def decide(self, work: Callable[[Connection, Trail], T]) -> T:
        """Run one transaction, with the trail of its events.

        Raises:
            UnavailableError: the database; nothing was changed there.
        """
        caller = Caller(f"local:{self.name}")
        return self.books.database.run_sync(
            lambda connection: work(connection, self.books.trail(connection, caller))
        )


@contextmanager
def local_command(name: str, configuration: Configuration, now: datetime) -> Iterator[LocalCommand]:
    """Open what a command works with, and close the database after it.

    Raises:
        ConfigurationError: IDENTITY_MISSING, or what `open_kek` and `opened_books` raise.
        UnavailableError: the database or the token.
        IntegrityError: WRAPPED_KEY_REJECTED.
    """
    own = IdentityStore(configuration.identity_dir).current().spiffe_id
    custody = open_kek(configuration.protection)
    books, log = opened_books(
        configuration.database, configuration.federation, own, custody, lambda: now
    )
    try:
        yield LocalCommand(name, own, custody, books, log)
    finally:
        books.database.close()
