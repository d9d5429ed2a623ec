"""The audit log in the database: every decision is in it, and nothing is done without it."""

import pytest
from finsecure_crypto.audit_event import seal
from finsecure_crypto.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from finsecure_crypto.merkle import Edge, verify_consistency, verify_inclusion
from finsecure_keyservice.audit.refusals import RefusalBudget
from finsecure_keyservice.audit.trail import Unrecorded
from finsecure_keyservice.federations import create_federation
from finsecure_keyservice.members import create_member, revoke_member
from finsecure_keyservice.revocation import rebuild_list
from finsecure_keyservice.sql_store import SqlStore
from sqlalchemy import update

from tests.support.keyservice import (
    LOG,
    SEAL_KEY,
    START,
    Books,
    authority,
    enrolment,
    issuer,
    requests,
    trail,
)
from tests.support.keyservice_deployment import BANK, LENDING


def test_every_decision_is_an_event():
    books = Books()
    with books.transaction() as store:
        create_federation(store, LENDING, "", START)
        _, key = create_member(store, issuer(), BANK, "Bank", START)
        issued = enrolment().enrol(store, key.expose(), requests(), START)
        revoke_member(store, BANK, "left in anger", START)
        rebuild_list(store, authority(), START, enrolment().lifetime)
    events = books.events()
    assert [(event.action, event.subject) for event in events] == [
        ("federation.create", LENDING),
        ("member.create", BANK),
        ("api-key.issue", BANK),
        ("certificate.issue", f"certificates/{issued.tls.serial}"),
        ("certificate.issue", f"certificates/{issued.signing.serial}"),
        ("member.enrol", BANK),
        ("member.revoke", BANK),
        ("revocation-list.sign", "revocationList"),
    ]
    assert [event.index for event in events] == list(range(8))
    assert {(event.caller, event.time) for event in events} == {("local:test", START)}
    assert events[6].details == {"reason": seal(SEAL_KEY, "reason", "left in anger")}
    assert key.expose() not in str(events)


def test_what_cannot_be_recorded_is_not_done():
    books = Books()
    with books.engine.begin() as connection:
        connection.execute(update(LOG._tables.head).values(edge=b"x"))
    with pytest.raises(UnavailableError, match="AUDIT_UNAVAILABLE"), books.transaction() as store:
        create_federation(store, LENDING, "", START)
    with books.transaction() as store:
        assert store.federation(LENDING) is None


def test_who_only_reads_decides_nothing():
    with Books().engine.begin() as connection:
        store = SqlStore(connection, Unrecorded())
        with pytest.raises(InternalError, match="AUDIT_TRAIL_MISSING"):
            create_federation(store, LENDING, "", START)
        with pytest.raises(InternalError, match="AUDIT_EVENT_MISSING"):
            trail(connection).require_event()


def test_the_stored_nodes_prove_every_event_and_every_size():
    books = Books()
    with books.engine.begin() as connection:
        pen = trail(connection)
        for number in range(21):
            pen.record("thing.happen", f"things/{number}", number=number)
        entries = LOG.entries(connection, 0, 100)
        edge, roots = Edge(), []
        for entry in entries:
            roots.append(edge.root)
            edge, _ = edge.append(entry.leaf)
        roots.append(edge.root)
        assert LOG.edge(connection) == edge
        for size in (1, 7, 16, 21):
            tree = LOG.tree(connection, size)
            assert tree.root == roots[size]
            for entry in entries[:size]:
                proof = tree.inclusion_proof(entry.index)
                assert verify_inclusion(tree.root, size, entry.index, entry.leaf, proof)
            for first in range(size + 1):
                proof = tree.consistency_proof(first)
                assert verify_consistency(first, roots[first], size, tree.root, proof)
        with pytest.raises(InvalidArgumentError, match="TREE_SIZE"):
            LOG.tree(connection, 22)
        assert [entry.index for entry in LOG.entries(connection, 5, 3)] == [5, 6, 7]
        assert [entry.index for entry in LOG.entries(connection, 0, 9, "things/9")] == [9]


def test_publications_are_found_by_subject_and_digest():
    with Books().engine.begin() as connection:
        pen = trail(connection)
        pen.record("key.publish", "keys/1", published=b"\1" * 32)
        pen.record("key.publish", "keys/1", published=b"\2" * 32)
        found = LOG.publication(connection, "keys/1", b"\1" * 32)
        assert found.index == 0
        assert b"01" * 32 in found.leaf
        for subject, digest in (("keys/1", b"\3" * 32), ("keys/2", b"\1" * 32)):
            with pytest.raises(NotFoundError, match="PUBLICATION_NOT_FOUND"):
                LOG.publication(connection, subject, digest)


def test_a_flood_of_refusals_is_counted_rather_than_recorded():
    now = [0.0]
    budget = RefusalBudget(lambda: now[0])
    answers = [budget.take("mallory") for _ in range(100)]
    assert answers == [0] * 60 + [None] * 40
    assert budget.take("bank") == 0
    now[0] += 1.5
    assert budget.take("mallory") == 40
    assert budget.take("mallory") is None
