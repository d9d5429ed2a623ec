"""A log goes over from key to key: what proves it, and every way to forge it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from finsecure_crypto.audit_event import Event
from finsecure_crypto.checkpoint import LogSigner
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.log_export import ExportReader, checkpoint_line, verify_export
from finsecure_crypto.log_keys import ANNOUNCE, Announcement, Handover
from finsecure_crypto.merkle import Edge, StoredTree
from finsecure_crypto.secret import SecretBytes

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ORIGIN = "finsecure.test/audit"


def _signer(seed: bytes, origin: str = ORIGIN) -> LogSigner:
    return LogSigner.from_seed(origin, SecretBytes(seed * 32))


A, B, C, THIEF = (_signer(seed) for seed in (b"a", b"b", b"c", b"t"))


def _text(key: LogSigner | None) -> str:
    return key.verifier.serialise() if key else ""


class Log:
    """Events and the signed lines between them, as an export has them."""

    def __init__(self, first: LogSigner | None = A) -> None:
        self.leaves: list[bytes] = []
        self.lines: list[bytes] = []
        self.edge = Edge()
        self.nodes: dict[tuple[int, int], bytes] = {}
        if first is not None:
            self.announce(first, None)

    def add(self, action: str = "member.create", subject: str = "m", **details: str) -> "Log":
        leaf = Event(self.edge.size, NOW, action, subject, "local:test", details=details).encode()
        self.edge, completed = self.edge.append(leaf)
        self.nodes |= {(node.level, node.position): node.hash for node in completed}
        self.leaves.append(leaf)
        self.lines.append(leaf)
        return self

    def announce(self, key: LogSigner, former: LogSigner | None) -> "Log":
        return self.add(ANNOUNCE, ORIGIN, key=_text(key), former=_text(former))

    def note(self, *signers: LogSigner) -> str:
        first, *others = signers
        return first.sign(self.edge.size, self.edge.root, *others)

    def sign(self, *signers: LogSigner) -> "Log":
        self.lines.append(checkpoint_line(self.note(*signers)))
        return self

    def handover(self, *signers: LogSigner, index: int | None = None) -> Handover:
        index = self.edge.size - 1 if index is None else index
        tree = StoredTree(self.edge.size, lambda level, position: self.nodes[level, position])
        proof = tree.inclusion_proof(index)
        return Handover(index, self.leaves[index], self.note(*signers), proof)


def _rotated() -> Log:
    log = Log().add().add().sign(A).add().announce(B, A).sign(A, B).add().sign(B)
    return log.announce(C, B).sign(B, C).add().sign(C)


def test_a_key_appoints_the_next_one() -> None:
    log = Log().add().add().announce(B, A)
    key, checkpoint = log.handover(A, B).verify(A.verifier)
    assert key == B.verifier
    assert (checkpoint.size, checkpoint.root) == (4, log.edge.root)
    assert log.handover(B, A).verify(A.verifier)[0] == B.verifier


@pytest.mark.parametrize(
    ("handover", "code"),
    [
        # Announced in a tree that the former key never signed, or the next one did not accept.
        (Log().announce(B, A).handover(B), "CHECKPOINT_UNTRUSTED"),
        (Log().announce(B, A).handover(THIEF, B), "CHECKPOINT_UNTRUSTED"),
        (Log().announce(B, A).handover(A), "CHECKPOINT_UNTRUSTED"),
        (Log().announce(B, A).handover(A, THIEF), "CHECKPOINT_UNTRUSTED"),
        # The former key signed, but nothing that hands over to this key, from this key, just here.
        (Log().add().handover(A, B), "AUDIT_KEY_CHANGE_INVALID"),
        (Log().announce(B, THIEF).handover(A, B), "AUDIT_KEY_CHANGE_INVALID"),
        (Log().announce(B, None).handover(A, B), "AUDIT_KEY_CHANGE_INVALID"),
        (Log().announce(A, A).handover(A), "AUDIT_KEY_CHANGE_INVALID"),
        (Log().announce(B, A).add().handover(A, B, index=1), "AUDIT_KEY_CHANGE_INVALID"),
        (Log().handover(A), "AUDIT_KEY_CHANGE_INVALID"),
        (
            Log().add(ANNOUNCE, ORIGIN, key=_text(B), former="nonsense").handover(A, B),
            "AUDIT_KEY_CHANGE_INVALID",
        ),
        (Log().add(ANNOUNCE, ORIGIN, key=_text(B)).handover(A, B), "AUDIT_KEY_CHANGE_INVALID"),
        (
            Log().add(ANNOUNCE, "other/audit", key=_text(B), former=_text(A)).handover(A, B),
            "AUDIT_KEY_CHANGE_INVALID",
        ),
        (Log().announce(_signer(b"b", "other/audit"), A).handover(A), "AUDIT_KEY_CHANGE_INVALID"),
    ],
)
def test_forged_handovers(handover: Handover, code: str) -> None:
    with pytest.raises(IntegrityError, match=code):
        handover.verify(A.verifier)


def test_an_announcement_that_is_not_in_the_tree_of_the_former_key() -> None:
    log = Log().add()
    forged = Log().announce(B, A).leaves[-1]
    with pytest.raises(IntegrityError, match="AUDIT_PROOF_INVALID"):
        replace(log.handover(A, B), leaf=forged).verify(A.verifier)


def test_an_export_over_rotations_verifies_with_every_key_of_the_log_and_with_no_other() -> None:
    log = _rotated()
    for signer in (A, B, C):
        last = verify_export(log.lines, signer.verifier)
        assert (last.size, last.root) == (log.edge.size, log.edge.root)
    with pytest.raises(IntegrityError, match="AUDIT_KEY_UNKNOWN"):
        verify_export(log.lines, THIEF.verifier)


def test_an_export_that_ends_before_the_rotation_is_refused_by_who_knows_the_next_key() -> None:
    log = Log().add().sign(A)
    verify_export(log.lines, A.verifier)
    with pytest.raises(IntegrityError, match="AUDIT_KEY_UNKNOWN"):
        verify_export(log.lines, B.verifier)
    # The announcement alone says nothing: both keys have to have signed for it.
    with pytest.raises(IntegrityError, match="AUDIT_EXPORT_UNSIGNED"):
        verify_export(log.announce(B, A).lines, B.verifier)


@pytest.mark.parametrize(
    ("log", "code"),
    [
        # The former key goes on signing; so does whoever has stolen it.
        (Log().announce(B, A).sign(A, B).add().sign(A), "CHECKPOINT_UNTRUSTED"),
        (Log().announce(B, A).sign(A, B).announce(C, A), "AUDIT_KEY_CHANGE_INVALID"),
        # A key announced itself, or somebody else did.
        (Log().announce(B, A).sign(B), "CHECKPOINT_UNTRUSTED"),
        (Log().announce(B, A).sign(A), "CHECKPOINT_UNTRUSTED"),
        (Log().announce(B, A).sign(THIEF, B), "CHECKPOINT_UNTRUSTED"),
        (Log().announce(B, THIEF), "AUDIT_KEY_CHANGE_INVALID"),
        (Log().announce(B, None), "AUDIT_KEY_CHANGE_INVALID"),
        # Nobody signed for the change before the log went on.
        (Log().announce(B, A).add(), "AUDIT_KEY_CHANGE_INVALID"),
        (Log().announce(B, A).announce(C, B), "AUDIT_KEY_CHANGE_INVALID"),
        # A key signs that was not announced at all.
        (Log().add().sign(B), "CHECKPOINT_UNTRUSTED"),
        (Log(None).add().sign(A), "AUDIT_KEY_UNKNOWN"),
    ],
)
def test_exports_whose_keys_do_not_follow_each_other(log: Log, code: str) -> None:
    *lines, spoilt = log.lines
    reader = ExportReader()
    for line in lines:
        reader.take(line)
    with pytest.raises(IntegrityError, match=code):
        reader.take(spoilt)


def test_other_events_say_nothing_about_keys() -> None:
    event = Event(3, NOW, "member.create", ORIGIN, "", details={"key": _text(B), "former": ""})
    assert Announcement.of(event) is None
