"""A revocation list that everybody takes again, after the database was restored from a copy.

Watchers keep the newest list that they know and refuse one with a lower number. That is right until
what was revoked since the copy is revoked again; then the number has to be above theirs.
"""

from datetime import datetime

from sqlalchemy import Connection

from finsecure_keyservice.audit.trail import Trail
from finsecure_keyservice.authorities import Authorities
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.local_command import LocalCommand
from finsecure_keyservice.protection.secret_files import CLEAR, SecretFiles
from finsecure_keyservice.revocation import rebuild_list
from finsecure_keyservice.sql_store import SqlStore

HIGHEST = 2**53
"""Largest number that a list may be told to be above: far from where numbers end (63 bits)."""


def renumber_list(
    configuration: Configuration, now: datetime, files: SecretFiles = CLEAR, above: int = 0
) -> int:
    """Sign a new list whose number is the time in seconds, or above one that is known; returns it.

    The time is above every number that was used before, unless lists were made more often than
    once a second since an earlier renumbering: then the last number has to be said. It works on the
    database itself; a running service announces the list within half a minute.

    Args:
        configuration: of the key service.
        now: the time.
        files: reads what the protection needs.
        above: the highest number that anybody has seen, from 0 to `HIGHEST`.

    Raises:
        ConfigurationError: what `LocalCommand` raises.
        UnavailableError: the database or the token.
    """
    command = LocalCommand.open("renumber-list", configuration, files)
    authorities = Authorities(command.material.root, command.vault)

    def work(connection: Connection, trail: Trail) -> int:
        store = SqlStore(connection, trail)
        authority = authorities.active(store.authorities)
        lifetime = configuration.revocation_list_lifetime
        lowest = max(int(now.timestamp()), above + 1)
        return rebuild_list(store, authority, now, lifetime, lowest).number

    return command.decide(now, work)
