"""The trustee's database, and in it the log of everything that it decides."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from finsecure_crypto import transcript
from finsecure_crypto.audit_event import Detail
from finsecure_crypto.certificates import SpiffeId
from finsecure_crypto.errors import FinSecureError
from finsecure_crypto.randomness import draw_secret
from finsecure_rpc.audit import trustee_log
from finsecure_rpc.database import Database, open_own_database
from finsecure_rpc.logs import get_logger
from sqlalchemy import Connection

from finsecure_keyservice.audit.keys import LogKeys
from finsecure_keyservice.audit.log import AuditLog
from finsecure_keyservice.audit.secrets import seal_key
from finsecure_keyservice.audit.signed_log import SignedLog
from finsecure_keyservice.audit.trail import Caller, Trail
from finsecure_keyservice.clock import Clock
from finsecure_keyservice.decisions import NO_DECISION, Auditor
from finsecure_keyservice.protection.kek import KeyEncryptionKey
from finsecure_keyservice.protection.vault import Vault
from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.schema import AUDIT

_log = get_logger(__name__)
T = TypeVar("T")

LOG = AuditLog(AUDIT)
"""The log of a trustee."""


@dataclass(frozen=True)
class Books:
    """Transactions on a trustee's database: what decides something records it, or does not happen.

    Attributes:
        database: the trustee's.
        auditor: opens trails.
    """

    database: Database
    auditor: Auditor

    async def transact(self, act: Callable[[Connection], T]) -> T:
        """Run a transaction; it is committed when this returns."""
        return await self.database.run(act)

    def trail(self, connection: Connection, caller: Caller) -> Trail:
        """The trail of a transaction."""
        return self.auditor.trail(connection, caller)

    @asynccontextmanager
    async def refusing(
        self, caller: Caller, method: str, subject: str, **details: Detail
    ) -> AsyncIterator[None]:
        """Put on record why what is asked for inside is refused, before the caller hears of it.

        That nothing could be decided is no refusal. A caller that is refused again and again is
        counted instead, so that it fills no disk.

        Raises:
            UnavailableError: in the place of the refusal, when it cannot be recorded.
        """
        try:
            yield
        except NO_DECISION:
            raise
        except FinSecureError as error:
            await self._refuse(caller, method, subject, error, details)
            raise

    async def _refuse(
        self,
        caller: Caller,
        method: str,
        subject: str,
        error: FinSecureError,
        details: Mapping[str, Detail],
    ) -> None:
        told = dict(details)
        if error.culprit is not None:
            told["culprit"] = error.culprit
        unrecorded = self.auditor.budget.take(caller.name)
        if unrecorded is not None:
            await self.transact(
                lambda connection: self.trail(connection, caller).refuse(
                    method, subject, error, unrecorded, **told
                )
            )
        _log.warning(
            "refused",
            method=method,
            subject=subject,
            reason=error.code,
            caller=caller.name,
            **told,
        )


def log_secret_context(origin: str) -> bytes:
    """What the wrapped secret of a log is bound to."""
    return transcript.encode("trustee-log-secret", origin)


def opened_books(
    url: str, federation: str, trustee: SpiffeId, custody: KeyEncryptionKey, clock: Clock
) -> tuple[Books, SignedLog]:
    """Open a trustee's database; an empty one becomes its own, with a log and the log's secret.

    Args:
        url: of the database.
        federation: id of the federation.
        trustee: whose it is.
        custody: wraps the log's secret.
        clock: the time of decisions.

    Raises:
        ConfigurationError: DATABASE_URL_INVALID, DATABASE_LAYOUT or DATABASE_FOREIGN.
        IntegrityError: WRAPPED_KEY_REJECTED when database and key do not belong together.
        UnavailableError: the database or the token.
    """
    origin = trustee_log(trustee.trust_domain, trustee.id)

    signed = SignedLog(LOG, LogKeys(AUDIT, LOG, origin, Vault(custody)))

    def prepare(connection: Connection) -> Auditor:
        fresh = store.prepare(connection, federation, trustee.id)
        if fresh:
            LOG.create(connection)
            wrapped = custody.wrap(draw_secret(os.urandom), log_secret_context(origin))
            store.add_log_secret(connection, wrapped)
        secret = custody.unwrap(store.log_secret(connection), log_secret_context(origin))
        auditor = Auditor(LOG, seal_key(secret, origin), clock)
        if fresh:
            signed.keys.create(connection, auditor.trail(connection, Caller("local:enrol")))
        return auditor

    database = open_own_database(url)
    try:
        auditor = database.run_sync(prepare)
    except BaseException:
        database.close()
        raise
    return Books(database, auditor), signed
