"""Events, exports of them, and what a verifier says of a log that was tampered with."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from finsecure_crypto.audit_event import Event, seal
from finsecure_crypto.checkpoint import LogSigner
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError
from finsecure_crypto.log_export import checkpoint_line, note_of, verify_export
from finsecure_crypto.log_keys import ANNOUNCE
from finsecure_crypto.log_verification import LogReader, verify_growth
from finsecure_crypto.merkle import Edge
from finsecure_crypto.secret import SecretBytes

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SIGNER = LogSigner.from_seed("finsecure.test/audit", SecretBytes(b"s" * 32))


def event(index: int, **fields: object) -> Event:
    values = {"action": "member.revoke", "subject": "operators/x", "caller": "local:test"}
    return Event(index, NOW, **(values | fields))  # type: ignore[arg-type]


FIRST = event(
    0,
    action=ANNOUNCE,
    subject="finsecure.test/audit",
    details={"key": SIGNER.verifier.serialise(), "former": ""},
)
LEAVES = [
    FIRST.encode(),
    *(event(index, details={"number": index}).encode() for index in range(1, 9)),
]


def note(leaves: list[bytes]) -> str:
    edge = Edge()
    for leaf in leaves:
        edge, _ = edge.append(leaf)
    return SIGNER.sign(edge.size, edge.root)


EXPORT = [
    *LEAVES[:4],
    checkpoint_line(note(LEAVES[:4])),
    *LEAVES[4:],
    checkpoint_line(note(LEAVES)),
]


def test_an_event_is_one_line_of_json_and_reads_back():
    text = 'quote " newline \n \u00e9'
    original = event(3, subject=text, details={"count": 7, "word": text})
    leaf = original.encode()
    assert b"\n" not in leaf
    assert leaf.isascii()
    assert Event.parse(leaf) == original
    assert json.loads(leaf)["time"] == "2026-01-01T12:00:00.000000+00:00"
    local = NOW.astimezone(timezone(timedelta(hours=5)))
    assert Event(3, local, "a.b", "", "").encode() == Event(3, NOW, "a.b", "", "").encode()


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "revoke"},
        {"action": "Member.revoke"},
        {"subject": "x" * 1025},
        {"details": {"Upper": 1}},
        {"details": {"a": 1.5}},
        {"details": {"a": True}},
        {"details": {"a": None}},
        {"details": {f"d{number}": 1 for number in range(33)}},
    ],
)
def test_events_that_do_not_fit(fields):
    with pytest.raises(InvalidArgumentError, match="AUDIT_EVENT_MALFORMED"):
        event(0, **fields)


def test_an_event_that_is_too_long_is_not_encoded():
    big = event(0, details={f"d{number}": "x" * 1000 for number in range(9)})
    with pytest.raises(InvalidArgumentError, match="AUDIT_EVENT_MALFORMED"):
        big.encode()


def _with(**changes: object) -> bytes:
    return json.dumps(json.loads(LEAVES[0]) | changes).encode()


@pytest.mark.parametrize(
    "leaf",
    [
        *(b"", b"{}", b"[]", b"null", b"\xff", b"[" * 8000, b"x" * 9000, LEAVES[0][:-1]),
        *(_with(index="0"), _with(index=-1), _with(index=True), _with(more=1)),
        *(_with(time="yesterday"), _with(time="2026-01-01T12:00:00"), _with(time=5)),
        *(_with(subject=1), _with(details=[]), _with(details={"a": {}}), _with(action="x")),
    ],
)
def test_leaves_that_are_no_events(leaf):
    with pytest.raises(IntegrityError, match="AUDIT_EVENT_MALFORMED"):
        Event.parse(leaf)


def test_sealed_values_are_bound_to_key_and_name():
    key = SecretBytes(b"k" * 32)
    sealed = seal(key, "reason", "left")
    assert sealed == seal(key, "reason", "left")
    others = {
        seal(key, "address", "left"),
        seal(key, "reason", "stays"),
        seal(SecretBytes(b"l" * 32), "reason", "left"),
    }
    assert sealed not in others
    assert len(others) == 3
    assert "left" not in sealed


def test_a_true_export_verifies():
    whole = verify_export(EXPORT, SIGNER.verifier)
    assert whole.size == 9
    assert verify_export([line + b"\n" for line in EXPORT], SIGNER.verifier, whole) == whole
    for size in range(1, 9):
        remembered = SIGNER.verifier.open(note(LEAVES[:size]))
        assert verify_export(EXPORT, SIGNER.verifier, remembered) == whole


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (EXPORT[:-1], "AUDIT_EXPORT_UNSIGNED"),
        (EXPORT[:-2], "AUDIT_EXPORT_UNSIGNED"),
        ([], "AUDIT_EXPORT_UNSIGNED"),
        (EXPORT[:3] + EXPORT[4:], "AUDIT_LOG_ROLLED_BACK"),
        (EXPORT[:6] + EXPORT[7:], "AUDIT_LOG_FORKED"),
        (EXPORT[1:], "AUDIT_LOG_FORKED"),
        ([EXPORT[1], EXPORT[0], *EXPORT[2:]], "AUDIT_LOG_FORKED"),
        ([EXPORT[0], event(1, subject="other").encode(), *EXPORT[2:]], "AUDIT_LOG_FORKED"),
        ([event(0, subject="other").encode(), *EXPORT[1:]], "AUDIT_KEY_UNKNOWN"),
        ([*EXPORT[:-2], event(8, subject="z").encode(), EXPORT[-1]], "AUDIT_LOG_FORKED"),
        ([*EXPORT[:-1], b'{"checkpoint":1}'], "CHECKPOINT_MALFORMED"),
        ([*EXPORT[:-1], b'{"checkpoint":'], "CHECKPOINT_MALFORMED"),
        ([*EXPORT[:-1], b'{"checkpoint":"x"}'], "CHECKPOINT_MALFORMED"),
        ([*EXPORT, b"junk"], "AUDIT_EVENT_MALFORMED"),
    ],
)
def test_exports_that_were_tampered_with(lines, code):
    with pytest.raises(IntegrityError, match=code):
        verify_export(lines, SIGNER.verifier)


def test_an_export_older_than_what_is_remembered_was_cut():
    remembered = SIGNER.verifier.open(note(LEAVES))
    with pytest.raises(IntegrityError, match="AUDIT_LOG_ROLLED_BACK"):
        verify_export(EXPORT[:5], SIGNER.verifier, remembered)
    other = SIGNER.verifier.open(note([*LEAVES[:5], event(5, subject="else").encode()]))
    with pytest.raises(IntegrityError, match="AUDIT_LOG_FORKED"):
        verify_export(EXPORT, SIGNER.verifier, other)


def test_growth_is_within_one_log():
    older = SIGNER.verifier.open(note(LEAVES[:4]))
    stranger = LogSigner.from_seed("other/audit", SecretBytes(b"s" * 32))
    same = stranger.verifier.open(stranger.sign(older.size, older.root))
    with pytest.raises(IntegrityError, match="AUDIT_LOG_FORKED"):
        verify_growth(older, same, [])
    verify_growth(older, older, [])


def test_a_reader_wants_every_event():
    reader = LogReader()
    reader.take(LEAVES[0])
    with pytest.raises(IntegrityError, match="AUDIT_LOG_FORKED"):
        reader.take(LEAVES[2])
    assert note_of(LEAVES[0]) is None
