"""Making a key service: authorities, files, database, first operator. Done once."""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.randomness import draw_secret
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.database import open_database
from finsecure_rpc.durable import write_file
from finsecure_rpc.identity_store import IdentityStore
from sqlalchemy import Connection

from finsecure_keyservice.admission_keys import Pepper
from finsecure_keyservice.audit.keys import LogKeys
from finsecure_keyservice.audit.log import AuditLog
from finsecure_keyservice.audit.mirror import AuditMirror
from finsecure_keyservice.audit.secrets import log_origin, seal_key
from finsecure_keyservice.audit.signed_log import SignedLog
from finsecure_keyservice.audit.trail import Caller
from finsecure_keyservice.authorities import Authorities
from finsecure_keyservice.authority import Root, fingerprint
from finsecure_keyservice.books import open_books
from finsecure_keyservice.clock import Clock
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.decisions import Auditor
from finsecure_keyservice.enrolment import Enrolment
from finsecure_keyservice.federations import create_federation
from finsecure_keyservice.join_tokens import JoinTokenIssuer
from finsecure_keyservice.members import ApiKeyIssuer, create_member
from finsecure_keyservice.names import MemberName, federation_id
from finsecure_keyservice.own_identity import OwnIdentity
from finsecure_keyservice.protection.opening import create_vault
from finsecure_keyservice.protection.root_token import create_root_key, require_apart
from finsecure_keyservice.protection.secret_files import CLEAR
from finsecure_keyservice.protection.settings import RootToken, TokenProtection
from finsecure_keyservice.protection.vault import Vault
from finsecure_keyservice.revocation import rebuild_list
from finsecure_keyservice.schema import AUDIT
from finsecure_keyservice.seal.share_set import ShareSet
from finsecure_keyservice.sql_store import SqlStore
from finsecure_keyservice.state import (
    SECRET_BYTES,
    KeyMaterial,
    StateFolder,
)


@dataclass(frozen=True)
class Founded:
    """What the operator has to know after `init`."""

    root: Path
    root_key: Path | None
    fingerprint: str
    log_key: str
    api_key: Path
    shares: tuple[Path, ...] = ()


def found(
    configuration: Configuration,
    operator: str,
    federation: str | None,
    root_key: Path | RootToken | None,
    now: datetime,
) -> Founded:
    """Make a key service; touches nothing that exists.

    Args:
        configuration: where everything goes.
        operator: id of the first operator.
        federation: id of a first federation, or None.
        root_key: file or token for the root's key; None means a file in the state folder.
        now: the time.

    Raises:
        ConfigurationError: ALREADY_INITIALISED, ROOT_TOKEN_SHARED, or what `create_vault` and
            `create_root_key` raise.
        InvalidArgumentError: NAME_MALFORMED.
        UnavailableError: what `create_vault` and `create_root_key` raise.
    """
    folder = StateFolder(configuration.state_dir)
    token = root_key if isinstance(root_key, RootToken) else None
    root_file = None if isinstance(root_key, RootToken) else root_key or folder.root_key
    if token is not None:
        require_apart(token, configuration.protected_by)
    name = str(MemberName.parse(f"operators/{operator}"))
    api_key = folder.path / f"operator-{operator}.api-key"
    if federation is not None:
        federation_id(f"federations/{federation}")
    files = (file for file in (root_file, api_key) if file is not None and file.exists())
    for occupied in (folder.occupied(), *files):
        if occupied is not None:
            raise ConfigurationError(
                "ALREADY_INITIALISED",
                f"{occupied} exists; nothing was changed. If an earlier `init` did not finish, "
                "empty `state_dir` and remove the database first",
            )
    configuration.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = open_database(configuration.database)

    def work(connection: Connection) -> Founded:
        open_books(connection, configuration.domain)
        share_set = ShareSet.configured(configuration)
        protection = configuration.protected_by
        vault = create_vault(protection, CLEAR if share_set is None else share_set.files)
        root = Root.create(
            configuration.domain,
            now,
            timedelta(days=configuration.root_lifetime_d),
            None if token is None else create_root_key(token),
        )
        lifetime = timedelta(days=configuration.intermediate_lifetime_d)
        authorities = Authorities(root.certificate, vault)
        material = KeyMaterial(
            root.certificate,
            draw_secret(os.urandom, SECRET_BYTES),
            draw_secret(os.urandom, SECRET_BYTES),
        )
        enrolment = enrolment_of(configuration, lambda: material.pepper, authorities)
        own = OwnIdentity(IdentityStore(folder.identity), enrolment)
        auditor = auditor_of(configuration, material, lambda: now)
        trail = auditor.trail(connection, Caller("local:init"))
        log_key = signed_log_of(configuration, vault).keys.create(connection, trail).verifier
        trail.record("authority.found", configuration.domain, root=fingerprint(root.certificate))
        store = SqlStore(connection, trail)
        authority = authorities.found(store.authorities, root, now, lifetime)
        if federation is not None:
            create_federation(store, f"federations/{federation}", "", now)
        _, key = create_member(
            store, issuer_of(configuration, lambda: material.pepper), name, "", now
        )
        rebuild_list(store, authority, now, configuration.revocation_list_lifetime)
        credentials = own.prepare(store, now, authority.anchors)
        # Files come before the commit: without it they open nothing, and it without them neither.
        folder.write(root, root_file, material, vault)
        own.install(credentials)
        write_file(api_key, key.expose().encode() + b"\n")
        shares: tuple[Path, ...] = ()
        if share_set is not None:
            share_set.record(trail, configuration.domain)
            shares = share_set.hand_out()
            if isinstance(protection, TokenProtection):  # its PIN was there in the clear
                share_set.take_over(protection.secret_file)
        found_root = fingerprint(root.certificate)
        return Founded(folder.root, root_file, found_root, log_key.serialise(), api_key, shares)

    try:
        return database.run_sync(work)
    finally:
        database.close()


def issuer_of(configuration: Configuration, pepper: Pepper) -> ApiKeyIssuer:
    """The maker of API keys that a configuration describes."""
    return ApiKeyIssuer(pepper, configuration.api_key_lifetime, os.urandom)


def join_tokens_of(configuration: Configuration, pepper: Pepper) -> JoinTokenIssuer:
    """The maker of join tokens that a configuration describes."""
    return JoinTokenIssuer(pepper, configuration.join_token_lifetime, os.urandom)


def enrolment_of(
    configuration: Configuration, pepper: Pepper, authorities: Authorities
) -> Enrolment:
    """The rules of enrolment that a configuration describes."""
    return Enrolment(
        configuration.domain,
        authorities,
        pepper,
        configuration.certificate_lifetime,
    )


def auditor_of(
    configuration: Configuration,
    material: KeyMaterial,
    clock: Clock,
    mirror: AuditMirror | None = None,
) -> Auditor:
    """The writer of the audit log that a configuration describes."""
    key = seal_key_of(configuration, material)
    if mirror is None:
        return Auditor(AuditLog(AUDIT), key, clock)
    return Auditor(AuditLog(AUDIT), key, clock, mirror.admit, lambda: mirror.healthy)


def seal_key_of(configuration: Configuration, material: KeyMaterial) -> SecretBytes:
    """The key of sealed details that a configuration describes."""
    return seal_key(material.audit, log_origin(configuration.domain))


def signed_log_of(configuration: Configuration, vault: Vault) -> SignedLog:
    """The audit log with its keys that a configuration describes."""
    log = AuditLog(AUDIT)
    return SignedLog(log, LogKeys(AUDIT, log, log_origin(configuration.domain), vault))
