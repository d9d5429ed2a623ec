"""API keys that are made on the key service's own machine."""

from datetime import datetime
from pathlib import Path

from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import ConfigurationError
from finsecure_rpc.durable import write_file
from sqlalchemy import Connection

from finsecure_keyservice import approvals
from finsecure_keyservice.audit.trail import Trail
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.founding import issuer_of
from finsecure_keyservice.local_command import LocalCommand
from finsecure_keyservice.members import create_member, issue_api_key
from finsecure_keyservice.names import MemberName
from finsecure_keyservice.pepper import PepperFile
from finsecure_keyservice.protection.secret_files import CLEAR, SecretFiles
from finsecure_keyservice.sql_store import SqlStore


def issue_locally(
    configuration: Configuration,
    member: MemberName,
    target: Path,
    now: datetime,
    files: SecretFiles = CLEAR,
) -> None:
    """Write a new API key for a person who administers, or for a trustee; who may be new.

    This is the way back in for who is locked out, the only way to make a security officer, and the
    way to a first trustee where there are no two officers yet. It asks nobody's permission: whoever
    can read the pepper could do anything anyway. What an officer has proposed or approved and
    nobody has done yet is withdrawn.

    Raises:
        ConfigurationError: FILE_EXISTS; what `LocalCommand` raises.
        UnavailableError: what `LocalCommand` raises.
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: FEDERATION_NOT_FOUND.
        StateError: MEMBER_REVOKED.
    """
    name = str(member)
    MemberName.parse(name)
    if target.exists():
        raise ConfigurationError("FILE_EXISTS", f"{target} exists; name another file")
    typed = "trustee-key" if member.role is Role.TRUSTEE else "operator-key"
    command = LocalCommand.open(typed, configuration, files)
    issuer = issuer_of(configuration, PepperFile(command.folder, command.vault))

    def work(connection: Connection, trail: Trail) -> None:
        store = SqlStore(connection, trail)
        if store.member(name) is None:
            _, key = create_member(store, issuer, name, "", now)
        else:
            key = issue_api_key(store, issuer, name, now)
            # What a lost key may have approved must not be in force for its owner.
            approvals.withdraw_all(store.approvals, member.spiffe_id(configuration.domain), now)
        write_file(target, key.expose().encode() + b"\n")

    command.decide(now, work)
