"""Audit events: one line of JSON each, which is also the leaf that the log hashes.

The line itself is what was logged, so nobody has to encode an event again to check it: an export
is a file of leaves, and a verifier hashes lines. Values that point to people or hold free text
are *sealed*: the log has only their HMAC, so that who has the key can confirm a guess and nobody
else learns anything.
"""

import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from finsecure_crypto import transcript
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.secret import SecretBytes

MAXIMUM_LEAF_BYTES = 8192

Detail = str | int
"""What a detail of an event may be."""

_ACTION = re.compile(r"[a-z][a-z0-9-]{0,39}\.[a-z][a-z0-9-]{0,39}", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
_MOST_DETAILS = 32
_MOST_TEXT = 1024
_FIELDS = frozenset(
    {"index", "time", "action", "subject", "caller", "certificate", "request", "details"}
)


@dataclass(frozen=True)
class Event:
    """One decision.

    Attributes:
        index: its place in the log, from 0.
        time: when, by the clock of the service, aware and in UTC.
        action: what was done, such as `member.revoke`; `call.refuse` for a refusal.
        subject: resource name of what it was done to; may be empty.
        caller: SPIFFE ID of who asked, `local:` and a command, or empty for an anonymous caller.
        certificate: serial number of the caller's certificate in hexadecimal, or empty.
        request: the caller's `request_id`, or empty.
        details: what else belongs to the decision.
    """

    index: int
    time: datetime
    action: str
    subject: str
    caller: str
    certificate: str = ""
    request: str = ""
    details: Mapping[str, Detail] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what does not fit the log.

        Raises:
            InvalidArgumentError: `AUDIT_EVENT_MALFORMED`; a defect of whoever records it.
        """
        texts = (self.subject, self.caller, self.certificate, self.request)
        values = [*texts, *(value for value in self.details.values() if isinstance(value, str))]
        if (
            self.index < 0
            or _ACTION.fullmatch(self.action) is None
            or len(self.details) > _MOST_DETAILS
            or not all(_NAME.fullmatch(name) for name in self.details)
            or any(len(value) > _MOST_TEXT for value in values)
            or any(type(value) not in (str, int) for value in self.details.values())
        ):
            raise InvalidArgumentError(
                "AUDIT_EVENT_MALFORMED", "an audit event is malformed or holds too much"
            )

    def encode(self) -> bytes:
        """Returns the line, without its end: compact JSON in ASCII with sorted keys.

        Raises:
            InvalidArgumentError: `AUDIT_EVENT_MALFORMED` above 8 KiB; the recorder's defect.
        """
        leaf = json.dumps(
            {
                "index": self.index,
                "time": self.time.astimezone(UTC).isoformat(timespec="microseconds"),
                "action": self.action,
                "subject": self.subject,
                "caller": self.caller,
                "certificate": self.certificate,
                "request": self.request,
                "details": dict(self.details),
            },
            sort_keys=True,
            separators=(",", ":"),
        ).encode("ascii")
        if len(leaf) > MAXIMUM_LEAF_BYTES:
            raise InvalidArgumentError(
                "AUDIT_EVENT_MALFORMED",
                f"an audit event has {len(leaf)} bytes; at most {MAXIMUM_LEAF_BYTES} fit",
            )
        return leaf

    @classmethod
    def parse(cls, leaf: bytes) -> "Event":
        """Reads a leaf.

        Raises:
            IntegrityError: `AUDIT_EVENT_MALFORMED`; the log's fault.
        """
        try:
            if len(leaf) > MAXIMUM_LEAF_BYTES:
                raise ValueError
            data: Any = json.loads(leaf)
            if not isinstance(data, dict) or data.keys() != _FIELDS:
                raise ValueError
            details, index = data.pop("details"), data.pop("index")
            time = datetime.fromisoformat(data.pop("time"))
            texts = all(isinstance(value, str) for value in data.values())
            if not (texts and isinstance(details, dict) and type(index) is int and time.tzinfo):
                raise ValueError
            return cls(index=index, time=time, details=details, **data)
        except (ValueError, TypeError, RecursionError, InvalidArgumentError) as error:
            raise IntegrityError(
                "AUDIT_EVENT_MALFORMED", "a leaf of the audit log is no event"
            ) from error


def seal(key: SecretBytes, name: str, value: str) -> str:
    """Returns `hmac-sha256:` and the HMAC in hexadecimal of a sensitive value.

    Bound to the name of its detail, so that equal values of different details stay unlinked.
    """
    pre_image = transcript.encode("audit-seal", name, value)
    return "hmac-sha256:" + hmac.digest(key.expose(), pre_image, "sha256").hex()
