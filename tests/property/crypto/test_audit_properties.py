"""Logs, notes and exports out of the hands of whoever owns them: any bytes, any change."""

from datetime import UTC, datetime

from finsecure_crypto.audit_event import Event
from finsecure_crypto.checkpoint import LogSigner, LogVerifier
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.log_export import checkpoint_line, note_of, verify_export
from finsecure_crypto.log_keys import ANNOUNCE
from finsecure_crypto.merkle import Edge, StoredTree, verify_consistency, verify_inclusion
from finsecure_crypto.secret import SecretBytes
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import merkle

SIGNER = LogSigner.from_seed("finsecure.test/audit", SecretBytes(b"s" * 32))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = {"key": SIGNER.verifier.serialise(), "former": ""}
LEAVES = [
    Event(0, NOW, ANNOUNCE, "finsecure.test/audit", "c", details=KEY).encode(),
    *(Event(index, NOW, "member.create", f"m/{index}", "c").encode() for index in range(1, 6)),
]


def _note(leaves):
    edge = Edge()
    for leaf in leaves:
        edge, _ = edge.append(leaf)
    return SIGNER.sign(edge.size, edge.root)


EXPORT = b"\n".join([*LEAVES, checkpoint_line(_note(LEAVES))]) + b"\n"


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70), st.data())
def test_any_log_proves_all_of_itself(leaves, data):
    edge, nodes = Edge(), {}
    for leaf in leaves:
        edge, completed = edge.append(leaf)
        nodes |= {(node.level, node.position): node.hash for node in completed}
    assert edge.root == merkle.tree_hash(leaves)
    size = data.draw(st.integers(1, len(leaves)))
    first, index = data.draw(st.integers(0, size)), data.draw(st.integers(0, size - 1))
    tree = StoredTree(size, lambda level, position: nodes[level, position])
    root, old = merkle.tree_hash(leaves[:size]), merkle.tree_hash(leaves[:first])
    assert verify_inclusion(root, size, index, leaves[index], tree.inclusion_proof(index))
    proof = tree.consistency_proof(first)
    assert verify_consistency(first, old, size, root, proof)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        bent = [*proof[:at], bytes(32), *proof[at + 1 :]]
        assert not verify_consistency(first, old, size, root, bent)


@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode()))
def test_any_bytes_are_an_event_or_refused(leaf):
    try:
        event = Event.parse(leaf)
    except IntegrityError:
        return
    assert Event.parse(event.encode()) == event


@given(st.text(max_size=400))
def test_any_text_is_no_signed_checkpoint(text):
    for note in (text, _note(LEAVES) + text, text + _note(LEAVES)):
        try:
            opened = SIGNER.verifier.open(note)
        except IntegrityError:
            continue
        assert opened.size == len(LEAVES)
        assert note.startswith(_note(LEAVES))


@given(st.text(max_size=200))
def test_any_text_is_a_verifier_key_or_refused(text):
    for candidate in (text, SIGNER.verifier.serialise() + text):
        try:
            verifier = LogVerifier.parse(candidate)
        except InvalidArgumentError:
            continue
        assert LogVerifier.parse(verifier.serialise()) == verifier


@given(st.integers(0, len(EXPORT) - 2), st.integers(1, 255))
def test_any_changed_byte_of_an_export_is_noticed(at, flip):
    changed = EXPORT[:at] + bytes([EXPORT[at] ^ flip]) + EXPORT[at + 1 :]
    try:
        checkpoint = verify_export(changed.split(b"\n")[:-1], SIGNER.verifier)
    except IntegrityError:
        return
    # Only the spelling of the line around the signed text may differ: spaces, escapes.
    assert changed.split(b"\n")[:-2] == LEAVES
    assert checkpoint == SIGNER.verifier.open(note_of(changed.split(b"\n")[-2]) or "")
