"""The pen of one transaction: records what it decides, for whom, into the audit log."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn, Protocol

from finsecure_crypto.audit_event import Detail, Event, seal
from finsecure_crypto.errors import FinSecureError, InternalError
from finsecure_crypto.secret import SecretBytes
from sqlalchemy import Connection

from finsecure_keyservice.audit.log import AuditLog


@dataclass(frozen=True)
class Caller:
    """Who asked for a decision.

    Attributes:
        name: SPIFFE ID, `local:` and a command, or empty for a caller without a certificate.
        certificate: serial number of its certificate in hexadecimal, or empty.
        address: where it called from, or empty; only its HMAC is recorded.
        opened_by: id of the set and numbers of the operators' shares with which a local command
            opened the seal, or empty.
    """

    name: str
    certificate: str = ""
    address: str = ""
    opened_by: str = ""


class Recorder(Protocol):
    """What stores and logic see of a trail."""

    def record(
        self,
        action: str,
        subject: str,
        *,
        sealed: Mapping[str, str] | None = None,
        published: bytes | None = None,
        **details: Detail,
    ) -> None:
        """See `Trail.record`."""

    def nothing_new(self) -> None:
        """See `Trail.nothing_new`."""


class Unrecorded:
    """The trail of a transaction that only reads: whoever decides in it is stopped."""

    def nothing_new(self) -> None:
        """Nothing is decided."""

    def record(self, action: str, subject: str, **details: object) -> NoReturn:
        """Refuse to decide.

        Raises:
            InternalError: AUDIT_TRAIL_MISSING; a defect of the service.
        """
        raise InternalError("AUDIT_TRAIL_MISSING", f"{action} was decided while only reading")


class Trail:
    """Records events in the transaction that makes them true.

    Args:
        log: where they go.
        connection: the transaction.
        caller: who asked.
        now: the time of the decision.
        key: HMAC key of sealed details.
        request: the caller's request id, or empty.
        admit: raises when a log of some size may not grow now.
    """

    def __init__(
        self,
        log: AuditLog,
        connection: Connection,
        caller: Caller,
        now: datetime,
        key: SecretBytes,
        request: str = "",
        admit: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._admit = admit
        self._log = log
        self._connection = connection
        self._caller = caller
        self._now = now
        self._key = key
        self._request = request
        self._accounted = False

    def record(
        self,
        action: str,
        subject: str,
        *,
        sealed: Mapping[str, str] | None = None,
        published: bytes | None = None,
        **details: Detail,
    ) -> None:
        """Record a decision; what cannot be recorded is not done.

        Args:
            action: `noun.verb`, such as `member.revoke`.
            subject: resource name of what is changed.
            sealed: details of which only an HMAC is recorded: free text, addresses.
            published: digest (32 bytes) of a public key or list that members may look up; the
                event is shown to every member then.
            **details: what else belongs to the decision; nothing secret.

        Raises:
            UnavailableError: AUDIT_UNAVAILABLE, AUDIT_MIRROR_BEHIND; let it pass, so that the
                transaction ends.
            InvalidArgumentError: AUDIT_EVENT_MALFORMED; a defect of the caller.
        """
        self._append(action, subject, sealed or {}, published, details)

    def nothing_new(self) -> None:
        """Say that an answer which is on record is only given again; no event is added."""
        self._accounted = True

    def refuse(
        self,
        method: str,
        subject: str,
        error: FinSecureError,
        unrecorded: int,
        **details: Detail,
    ) -> None:
        """Record that a call was refused.

        `unrecorded` counts refusals of this caller before it that were too many to record.
        """
        said = {"method": method, "reason": error.code, "unrecorded": unrecorded, **details}
        self._append("call.refuse", subject, {}, None, said)

    def require_event(self) -> None:
        """End a transaction that decided something in silence.

        Raises:
            InternalError: AUDIT_EVENT_MISSING; a defect of the service.
        """
        if not self._accounted:
            raise InternalError("AUDIT_EVENT_MISSING", "a decision was not recorded")

    def _append(
        self,
        action: str,
        subject: str,
        sealed: Mapping[str, str],
        published: bytes | None,
        details: Mapping[str, Detail],
    ) -> None:
        edge = self._log.edge(self._connection)
        self._admit(edge.size)
        closed = {name: seal(self._key, name, text) for name, text in sealed.items()}
        if self._caller.address:
            closed["address"] = seal(self._key, "address", self._caller.address)
        if self._caller.opened_by:
            closed["opened_by"] = self._caller.opened_by
        if published is not None:
            closed["sha256"] = published.hex()
        event = Event(
            index=edge.size,
            time=self._now,
            action=action,
            subject=subject,
            caller=self._caller.name,
            certificate=self._caller.certificate,
            request=self._request,
            details={**details, **closed},
        )
        self._log.append(self._connection, edge, event.encode(), subject, published)
        self._accounted = True
