"""Rotating the pepper under which API keys are hashed: unused ones become void."""

import os
from datetime import datetime

from finsecure_crypto.randomness import draw_secret
from finsecure_rpc.database import open_database
from sqlalchemy import Connection

from finsecure_keyservice.audit.trail import Caller
from finsecure_keyservice.books import check_books
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.founding import auditor_of
from finsecure_keyservice.sql_store import SqlStore
from finsecure_keyservice.state import SECRET_BYTES, StateFolder


def rotate_pepper(configuration: Configuration, now: datetime) -> int:
    """Put another pepper in the place of the present one; returns how many API keys became void.

    It works on the database itself, next to a running service, which goes on with the new one.

    Raises:
        ConfigurationError: what `StateFolder.open` and `check_books` raise.
        UnavailableError: the database or the token.
    """
    folder = StateFolder(configuration.state_dir)
    vault, secrets = folder.open(configuration.protected_by)
    auditor = auditor_of(configuration, secrets, lambda: now)
    database = open_database(configuration.database)

    def work(connection: Connection) -> int:
        check_books(connection, configuration.domain)
        trail = auditor.trail(connection, Caller("local:rotate-pepper"))
        count = SqlStore(connection, trail).void_all_api_keys()
        trail.record("api-key-pepper.rotate", configuration.domain, voided=count)
        # Before the commit: without it these keys are void, and nothing is lost by a repetition.
        folder.write_pepper(vault, draw_secret(os.urandom, SECRET_BYTES))
        return count

    try:
        return database.run_sync(work)
    finally:
        database.close()
