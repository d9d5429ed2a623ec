"""Rotating the pepper under which API keys and join tokens are hashed: both become void."""

import os
from datetime import datetime

from finsecure_crypto.randomness import draw_secret
from sqlalchemy import Connection

from finsecure_keyservice.audit.trail import Trail
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.local_command import LocalCommand
from finsecure_keyservice.protection.secret_files import CLEAR, SecretFiles
from finsecure_keyservice.sql_store import SqlStore
from finsecure_keyservice.state import SECRET_BYTES


def rotate_pepper(
    configuration: Configuration, now: datetime, files: SecretFiles = CLEAR
) -> tuple[int, int]:
    """Put another pepper in the place of the present one.

    Returns:
        How many API keys that nobody has used became void, and how many join tokens.

    It works on the database itself, next to a running service, which goes on with the new one.

    Raises:
        ConfigurationError: what `LocalCommand` raises.
        UnavailableError: the database or the token.
    """
    command = LocalCommand.open("rotate-pepper", configuration, files)

    def work(connection: Connection, trail: Trail) -> tuple[int, int]:
        store = SqlStore(connection, trail)
        keys, tokens = store.void_all_api_keys(), store.join_tokens.revoke_all(now)
        trail.record("api-key-pepper.rotate", configuration.domain, voided=keys, join_tokens=tokens)
        # Before the commit: without it these are void, and nothing is lost by a repetition.
        command.folder.write_pepper(command.vault, draw_secret(os.urandom, SECRET_BYTES))
        return keys, tokens

    return command.decide(now, work)
