"""Rotating the key of a trustee's log: a new one signs its checkpoints, and the log goes on."""

from datetime import datetime

from finsecure_keyservice.trustee.config import Configuration
from finsecure_keyservice.trustee.local_command import local_command


def rotate_audit_key(configuration: Configuration, now: datetime) -> str:
    """Make the next key of the log and hand the log over to it; returns its verifier key.

    It works on the database itself, in one transaction, next to a running trustee.

    Raises:
        ConfigurationError: what `local_command` raises.
        UnavailableError: the database or the token; nothing was changed.
        IntegrityError: WRAPPED_KEY_REJECTED; nothing was changed.
    """
    with local_command("rotate-audit-key", configuration, now) as command:
        successor = command.decide(command.log.keys.rotate)
    return successor.verifier.serialise()
