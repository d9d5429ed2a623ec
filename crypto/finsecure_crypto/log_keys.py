"""The keys of a log, one after the other, and how a follower gets from one to the next.

A log names its first key in its first event. An event that names the next key is followed by a
checkpoint of exactly the tree that ends with it, signed by both keys: the *handover*. The former
key signs no larger tree, the next one no smaller. So whoever knows the former key can tell that it
appointed the next, and events are never signed anew.

Source: C2SP signed-note (several signatures under one text); RFC 9162, section 2.1.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from finsecure_crypto.audit_event import Event
from finsecure_crypto.checkpoint import Checkpoint, LogVerifier
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.log_verification import verify_event

ANNOUNCE = "audit-key.announce"
"""Action of the events that name a key; their subject is the log's name."""


@dataclass(frozen=True)
class Announcement:
    """What such an event says in its details of the same names.

    Attributes:
        key: signs from here on, behind the handover.
        former: signs up to here; None in the first event of a log, where the detail is empty.
    """

    key: LogVerifier
    former: LogVerifier | None = None

    @classmethod
    def of(cls, event: Event) -> "Announcement | None":
        """Reads what an event says about the log's key; None if it is about something else.

        Raises:
            IntegrityError: `AUDIT_KEY_CHANGE_INVALID`; the log's fault.
        """
        if event.action != ANNOUNCE:
            return None
        try:
            key, former = (str(event.details[name]) for name in ("key", "former"))
            announced = cls(LogVerifier.parse(key), LogVerifier.parse(former) if former else None)
        except (KeyError, InvalidArgumentError) as error:
            raise invalid_change(event.index) from error
        keys = [announced.key] if announced.former is None else [announced.key, announced.former]
        if (
            {key.origin for key in keys} != {event.subject}
            or announced.key == announced.former
            or (announced.former is None) != (event.index == 0)
        ):
            raise invalid_change(event.index)
        return announced


@dataclass(frozen=True)
class Handover:
    """The proof that a key of a log gave way to the next one.

    Attributes:
        index: place of the announcement.
        leaf: the announcement, as the log has it.
        note: checkpoint of the tree that ends with it, signed by both keys.
        hashes: proof that it is in that tree.
    """

    index: int
    leaf: bytes
    note: str
    hashes: Sequence[bytes]

    def verify(self, former: LogVerifier) -> tuple[LogVerifier, Checkpoint]:
        """Demand that a key appointed its successor.

        Args:
            former: the key that is trusted so far.

        Returns:
            The next key, and the checkpoint up to which the former one signed. Whether the log
            grew from an older checkpoint to this one is for the caller to demand.

        Raises:
            IntegrityError: `CHECKPOINT_MALFORMED`, `CHECKPOINT_UNTRUSTED`, `AUDIT_PROOF_INVALID`,
                `AUDIT_EVENT_MALFORMED` or `AUDIT_KEY_CHANGE_INVALID`; the log's fault.
        """
        checkpoint = former.open(self.note)
        announced = Announcement.of(verify_event(checkpoint, self.index, self.leaf, self.hashes))
        if announced is None or announced.former != former or checkpoint.size != self.index + 1:
            raise invalid_change(self.index)
        announced.key.open(self.note)
        return announced.key, checkpoint


def invalid_change(index: int) -> IntegrityError:
    """The error for an event that does not hand a log over as it should."""
    return IntegrityError(
        "AUDIT_KEY_CHANGE_INVALID",
        f"event {index} of the audit log does not hand the log over to another key as it should: "
        "keep your checkpoint, trust no new key, and ask the operator on a trusted way",
    )
