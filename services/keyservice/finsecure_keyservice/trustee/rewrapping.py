"""Rotating the key that wraps a trustee's secrets: a new version, and all of them wrapped anew.

Older versions stay, because backups are wrapped by them. Everything is wrapped in one transaction
after the version was made, so a crash in between needs nothing but a repetition.
"""

from datetime import datetime

from sqlalchemy import Connection

from finsecure_keyservice.audit.keys import LogKeys
from finsecure_keyservice.audit.trail import Trail
from finsecure_keyservice.protection.kek import KeyEncryptionKey, rewrapped
from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.books import log_secret_context
from finsecure_keyservice.trustee.config import Configuration
from finsecure_keyservice.trustee.holdings import sealing_context
from finsecure_keyservice.trustee.local_command import local_command
from finsecure_keyservice.trustee.surroundings import share_context, trustee_name


def rotate_key_encryption_key(configuration: Configuration, now: datetime) -> tuple[int, int]:
    """Make the next version and wrap everything under it; returns it, and how many secrets.

    It works on the database itself, next to a running trustee.

    Raises:
        ConfigurationError: what `local_command` raises.
        UnavailableError: the database or the token.
        IntegrityError: WRAPPED_KEY_REJECTED; nothing in the database was changed.
    """
    with local_command("rotate-kek", configuration, now) as command:

        def work(connection: Connection, trail: Trail) -> tuple[int, int]:
            version = command.custody.rotate()
            count = _rewrap(connection, command.custody, command.log.keys)
            trail.record(
                "key-encryption-key.rotate",
                trustee_name(configuration.federation, command.own.id),
                version=version,
            )
            return version, count

        return command.decide(work)


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
