"""Rotating the key-encryption key: a new version, and everything that the old one wrapped anew.

Older versions stay, because backups are wrapped by them. Each step leaves everything readable, so
a crash in between needs nothing but a repetition.
"""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from finsecure_keyservice.audit.trail import Trail
from finsecure_keyservice.authorities import Authorities
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.founding import signed_log_of
from finsecure_keyservice.keys.material import Material
from finsecure_keyservice.keys.store import KeyStore
from finsecure_keyservice.local_command import LocalCommand
from finsecure_keyservice.protection.secret_files import CLEAR, SecretFiles
from finsecure_keyservice.sql_store import SqlStore


def rotate_key_encryption_key(
    configuration: Configuration, now: datetime, files: SecretFiles = CLEAR
) -> tuple[int, int]:
    """Make the next version and wrap everything under it; returns it, and how many keys there are.

    It works on the database itself, next to a running service. What lies in a token stays there.

    Raises:
        ConfigurationError: what `LocalCommand` raises.
        UnavailableError: the database or the token.
        IntegrityError: WRAPPED_KEY_REJECTED; nothing in the database was changed.
    """
    command = LocalCommand.open("rotate-kek", configuration, files)
    folder, vault, secrets = command.folder, command.vault, command.material

    def work(connection: Connection, trail: Trail) -> tuple[int, int]:
        version = vault.kek.rotate()
        count = Authorities(secrets.root, vault).rewrap(SqlStore(connection, trail).authorities)
        count += _rewrap_keys(KeyStore(connection, trail), Material(vault))
        signed_log_of(configuration, vault).keys.rewrap(connection)
        trail.record("key-encryption-key.rotate", configuration.domain, version=version)
        return version, count + 1

    def rewrap_files(_: Connection) -> None:
        # The pepper of now: it may have been rotated, which takes a transaction, too.
        pepper = folder.open_pepper(vault, folder.pepper())
        folder.rewrap(vault, replace(secrets, pepper=pepper))

    made = command.decide(now, work)
    command.exclusively(rewrap_files)
    return made


def _rewrap_keys(store: KeyStore, material: Material) -> int:
    versions, jobs = store.versions_with_keys(), store.jobs()
    for version in versions:
        store.update_version(replace(version, handle=material.rewrap(version)))
    for job in jobs:
        store.update_job(replace(job, handle=material.rewrap_job(job)))
    return len(versions) + len(jobs)
