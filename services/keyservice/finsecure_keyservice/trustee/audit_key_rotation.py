"""Rotating the key of a trustee's log: a new one signs its checkpoints, and the log goes on."""

from datetime import datetime

from finsecure_rpc.identity_store import IdentityStore
from sqlalchemy import Connection

from finsecure_keyservice.audit.trail import Caller
from finsecure_keyservice.protection.opening import open_kek
from finsecure_keyservice.trustee.books import opened_books
from finsecure_keyservice.trustee.config import Configuration


def rotate_audit_key(configuration: Configuration, now: datetime) -> str:
    """Make the next key of the log and hand the log over to it; returns its verifier key.

    It works on the database itself, in one transaction, next to a running trustee.

    Raises:
        ConfigurationError: IDENTITY_MISSING, or what `open_kek` and `opened_books` raise.
        UnavailableError: the database or the token; nothing was changed.
        IntegrityError: WRAPPED_KEY_REJECTED; nothing was changed.
    """
    books, log = opened_books(
        configuration.database,
        configuration.federation,
        IdentityStore(configuration.identity_dir).current().spiffe_id,
        open_kek(configuration.protection),
        lambda: now,
    )

    def work(connection: Connection) -> str:
        trail = books.trail(connection, Caller("local:rotate-audit-key"))
        return log.keys.rotate(connection, trail).verifier.serialise()

    try:
        return books.database.run_sync(work)
    finally:
        books.database.close()
