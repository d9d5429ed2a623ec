"""Exports of a log: its events and signed checkpoints as lines of JSON, in their order.

An export names all keys of its log, from the first event on, so it is verified against any one of
them. Source: C2SP tlog-checkpoint, signed-note.
"""

import json
from collections.abc import Iterable

from finsecure_crypto.checkpoint import Checkpoint, LogVerifier
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.log_keys import Announcement, invalid_change
from finsecure_crypto.log_verification import LogReader


class ExportReader:
    """Reads an export line by line: each checkpoint has to be signed by the key whose turn it is.

    It follows the keys that the log itself names. That they are the true ones is shown by a
    checkpoint that is remembered, or by `signed`, once it holds a key that is known otherwise.

    Args:
        remembered: a checkpoint that the log has to agree with when it gets there.

    Attributes:
        checkpoint: the last one that was read.
        signed: the keys that signed a checkpoint so far.
    """

    def __init__(self, remembered: Checkpoint | None = None) -> None:
        self._reader = LogReader(remembered)
        self._key: LogVerifier | None = None
        self._next: LogVerifier | None = None  # announced, but not yet handed over to
        self.checkpoint: Checkpoint | None = None
        self.signed: set[LogVerifier] = set()

    @property
    def size(self) -> int:
        """How many events were read."""
        return self._reader.size

    def take(self, line: bytes) -> None:
        """Take the next line, without its end.

        Raises:
            IntegrityError: what `take_event` and `take_note` raise.
        """
        note = note_of(line)
        if note is None:
            self.take_event(line)
        else:
            self.take_note(note)

    def take_event(self, leaf: bytes) -> None:
        """Take the next event.

        Raises:
            IntegrityError: what `LogReader.take` raises; `AUDIT_KEY_CHANGE_INVALID` when the key
                changes and the former key did not sign for it; the log's fault.
        """
        event = self._reader.take(leaf)
        if self._next is not None:
            raise invalid_change(event.index - 1)
        announced = Announcement.of(event)
        if announced is None:
            return
        if announced.former != self._key:
            raise invalid_change(event.index)
        if self._key is None:
            self._key = announced.key
        else:
            self._next = announced.key

    def take_note(self, note: str) -> Checkpoint:
        """Take a signed checkpoint of everything that was read.

        Raises:
            IntegrityError: `CHECKPOINT_MALFORMED`, `CHECKPOINT_UNTRUSTED` when it is not signed by
                the key whose turn it is, by both in a handover; `AUDIT_KEY_UNKNOWN` when the log
                does not begin with its key; what `LogReader.check` raises. The log's fault.
        """
        if self._key is None:
            raise IntegrityError(
                "AUDIT_KEY_UNKNOWN", "the audit log does not begin with the key that signs it"
            )
        checkpoint = self._key.open(note)
        self._reader.check(checkpoint)
        if self._next is not None:
            self._next.open(note)
            self.signed.add(self._key)
            self._key, self._next = self._next, None
        self.signed.add(self._key)
        self.checkpoint = checkpoint
        return checkpoint

    def finish(self) -> Checkpoint:
        """Demand that the remembered checkpoint was reached, and that the last event is signed for.

        Raises:
            IntegrityError: `AUDIT_LOG_ROLLED_BACK`, `AUDIT_EXPORT_UNSIGNED`; the log's fault.
        """
        self._reader.finish()
        if self.checkpoint is None or self.checkpoint.size != self.size:
            raise IntegrityError(
                "AUDIT_EXPORT_UNSIGNED",
                "no checkpoint covers the last events of the export: they may be forged or cut",
            )
        return self.checkpoint


def verify_export(
    lines: Iterable[bytes], verifier: LogVerifier, remembered: Checkpoint | None = None
) -> Checkpoint:
    """Verify an export: events and checkpoints as lines of JSON, in their order.

    Args:
        lines: with or without line ends; what a sink wrote, or `finsecure audit export`.
        verifier: a public key of the log: the present one, or one that handed over to it.
        remembered: a checkpoint from elsewhere that the export has to agree with.

    Returns:
        The last checkpoint.

    Raises:
        IntegrityError: what `ExportReader` raises; `AUDIT_KEY_UNKNOWN` when the key that was given
            is none of the log's. The fault of whoever gave the export.
    """
    reader = ExportReader(remembered)
    for line in lines:
        reader.take(line.rstrip(b"\r\n"))
    last = reader.finish()
    if verifier not in reader.signed:
        raise IntegrityError(
            "AUDIT_KEY_UNKNOWN",
            "the key that you know has signed nothing in this export: it is of another log, was "
            "forged, or ends before the log was handed over to that key",
        )
    return last


def checkpoint_line(note: str) -> bytes:
    """Returns the line that holds a signed checkpoint in an export, without its end."""
    return json.dumps({"checkpoint": note}, separators=(",", ":")).encode("ascii")


def note_of(line: bytes) -> str | None:
    """Reads the signed checkpoint in a line of an export; None for an event.

    Raises:
        IntegrityError: `CHECKPOINT_MALFORMED`.
    """
    if not line.startswith(b'{"checkpoint":'):
        return None
    try:
        note = json.loads(line)["checkpoint"]
    except (ValueError, RecursionError) as error:
        raise IntegrityError(
            "CHECKPOINT_MALFORMED", "a checkpoint of the export cannot be read"
        ) from error
    if not isinstance(note, str):
        raise IntegrityError("CHECKPOINT_MALFORMED", "a checkpoint of the export is no text")
    return note
