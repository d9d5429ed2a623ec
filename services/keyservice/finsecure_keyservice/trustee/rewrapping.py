"""Rotating the key that wraps a trustee's secrets: a new version, and all of them wrapped anew.

Older versions stay, because backups are wrapped by them. Everything is wrapped in one transaction
after the version was made, so a crash in between needs nothing but a repetition.
"""

from datetime import datetime

from finsecure_rpc.identity_store import IdentityStore
from sqlalchemy import Connection

from finsecure_keyservice.audit.keys import LogKeys
from finsecure_keyservice.audit.trail import Caller
from finsecure_keyservice.protection.kek import KeyEncryptionKey, rewrapped
from finsecure_keyservice.protection.opening import open_kek
from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.books import log_secret_context, opened_books
from finsecure_keyservice.trustee.config import Configuration
from finsecure_keyservice.trustee.holdings import sealing_context
from finsecure_keyservice.trustee.surroundings import share_context, trustee_name


def rotate_key_encryption_key(configuration: Configuration, now: datetime) -> tuple[int, int]:
    """Make the next version and wrap everything under it; returns it, and how many secrets.

    It works on the database itself, next to a running trustee.

    Raises:
        ConfigurationError: IDENTITY_MISSING, or what `open_kek` and `opened_books` raise.
        UnavailableError: the database or the token.
        IntegrityError: WRAPPED_KEY_REJECTED; nothing in the database was changed.
    """
    own = IdentityStore(configuration.identity_dir).current().spiffe_id
    custody = open_kek(configuration.protection)
    books, log = opened_books(
        configuration.database, configuration.federation, own, custody, lambda: now
    )

    def work(connection: Connection) -> tuple[int, int]:
        version = custody.rotate()
        count = _rewrap(connection, custody, log.keys)
        books.trail(connection, Caller("local:rotate-kek")).record(
            "key-encryption-key.rotate",
            trustee_name(configuration.federation, own.id),
            version=version,
        )
        return version, count

    try:
        return books.database.run_sync(work)
    finally:
        books.database.close()


def _rewrap(connection: Connection, custody: KeyEncryptionKey, keys: LogKeys) -> int:
    """Wrap shares, the seed of the sealing key, the secret and key of the log; returns how many."""
    shares = store.wrapped_shares(connection)
    for name, wrapped in shares.items():
        store.set_share(connection, name, rewrapped(custody, wrapped, share_context(name)))
    sealing = store.sealing_key(connection)
    if sealing is not None:
        public, wrapped = sealing
        seed = rewrapped(custody, wrapped, sealing_context(public))
        store.set_sealing_seed(connection, seed)
    secret = store.log_secret(connection)
    store.set_log_secret(connection, rewrapped(custody, secret, log_secret_context(keys.origin)))
    keys.rewrap(connection)
    return len(shares) + (sealing is not None) + 2
