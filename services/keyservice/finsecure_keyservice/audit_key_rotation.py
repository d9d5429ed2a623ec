"""Rotating the key of the audit log: a new one signs its checkpoints, and the log goes on."""

from datetime import datetime

from sqlalchemy import Connection

from finsecure_keyservice.audit.trail import Trail
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.founding import signed_log_of
from finsecure_keyservice.local_command import LocalCommand
from finsecure_keyservice.protection.secret_files import CLEAR, SecretFiles


def rotate_audit_key(
    configuration: Configuration, now: datetime, files: SecretFiles = CLEAR
) -> str:
    """Make the next key of the audit log and hand the log over to it; returns its verifier key.

    It works on the database itself, in one transaction, next to a running service, which signs with
    the new key from the next checkpoint on. The former key is forgotten.

    Raises:
        ConfigurationError: what `LocalCommand` raises.
        UnavailableError: the database or the token; nothing was changed.
        IntegrityError: WRAPPED_KEY_REJECTED; nothing was changed.
    """
    command = LocalCommand.open("rotate-audit-key", configuration, files)
    keys = signed_log_of(configuration, command.vault).keys

    def work(connection: Connection, trail: Trail) -> str:
        return keys.rotate(connection, trail).verifier.serialise()

    return command.decide(now, work)
