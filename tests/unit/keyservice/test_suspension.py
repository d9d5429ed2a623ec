"""Members that are out for a while: nothing works, nothing is revoked, everything comes back."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from finsecure_crypto.certificates import Purpose, RevocationList, verify_certificate
from finsecure_crypto.errors import AuthenticationError, NotFoundError, StateError
from finsecure_keyservice import members, suspension
from finsecure_keyservice.enrolment import Issued
from finsecure_keyservice.federations import create_federation
from finsecure_keyservice.records import MemberState
from finsecure_keyservice.revocation import rebuild_list
from finsecure_keyservice.sql_store import SqlStore

from tests.support.keyservice import START, Books, authority, enrolment, issuer, requests

HOUR = timedelta(hours=1)
LENDING = "federations/lending"
BANK = f"{LENDING}/clients/bank-1"


@pytest.fixture
def store() -> Iterator[SqlStore]:
    with Books().transaction() as transaction:
        create_federation(transaction, LENDING, "", START)
        yield transaction


def enrolled(store: SqlStore, name: str = BANK) -> Issued:
    _, key = members.create_member(store, issuer(), name, "", START)
    return enrolment().enrol(store, key.expose(), requests(), START)


def listed(store: SqlStore) -> RevocationList:
    record = rebuild_list(store, authority(), START, HOUR)
    return RevocationList.parse(record.der, authority().anchors, START)


def test_certificates_are_on_hold_and_come_back(store: SqlStore) -> None:
    issued = enrolled(store)
    serials = {int(issued.tls.serial, 16), int(issued.signing.serial, 16)}
    suspended = suspension.suspend_member(store, BANK, "under investigation")
    assert suspended.state is MemberState.SUSPENDED
    away = listed(store)
    assert (away.holds, away.serials) == (serials, frozenset())
    for certificate, purpose in ((issued.tls, Purpose.TLS), (issued.signing, Purpose.SIGNING)):
        with pytest.raises(AuthenticationError, match="MEMBER_SUSPENDED"):
            verify_certificate(certificate.der, authority().anchors, away, START, purpose)
    assert store.certificate(issued.tls.serial).revoke_time is None
    assert suspension.reactivate_member(store, BANK).state is MemberState.ACTIVE
    back = listed(store)
    assert not back.holds | back.serials
    verify_certificate(issued.tls.der, authority().anchors, back, START, Purpose.TLS)


def test_a_suspended_member_gets_nothing(store: SqlStore) -> None:
    issued = enrolled(store)
    key = members.issue_api_key(store, issuer(), BANK, START)
    suspension.suspend_member(store, BANK, "why")
    identity = verify_certificate(
        issued.tls.der, authority().anchors, None, START, Purpose.TLS
    ).spiffe_id
    for attempt in (
        lambda: enrolment().renew(store, identity, issued.tls.serial, requests(), START),
        lambda: members.issue_api_key(store, issuer(), BANK, START),
        lambda: suspension.suspend_member(store, BANK, "again"),
    ):
        with pytest.raises(StateError, match="MEMBER_SUSPENDED"):
            attempt()
    suspension.reactivate_member(store, BANK)
    with pytest.raises(AuthenticationError, match="API_KEY_REJECTED"):  # void since
        enrolment().enrol(store, key.expose(), requests(), START)


def test_what_is_revoked_stays_revoked(store: SqlStore) -> None:
    issued = enrolled(store)
    suspension.suspend_member(store, BANK, "why")
    members.revoke_member(store, BANK, "left", START)
    assert listed(store).serials >= {int(issued.tls.serial, 16)}
    for attempt in (
        lambda: suspension.reactivate_member(store, BANK),
        lambda: suspension.suspend_member(store, BANK, "why"),
    ):
        with pytest.raises(StateError, match="MEMBER_REVOKED"):
            attempt()


def test_who_has_not_enrolled_is_invited_again(store: SqlStore) -> None:
    members.create_member(store, issuer(), BANK, "", START)
    suspension.suspend_member(store, BANK, "why")
    assert suspension.reactivate_member(store, BANK).state is MemberState.INVITED
    with pytest.raises(StateError, match="MEMBER_NOT_SUSPENDED"):
        suspension.reactivate_member(store, BANK)


def test_the_last_operator_and_nobody(store: SqlStore) -> None:
    enrolled(store, "operators/alice")
    with pytest.raises(StateError, match="LAST_OPERATOR"):
        suspension.suspend_member(store, "operators/alice", "why")
    with pytest.raises(NotFoundError, match="MEMBER_NOT_FOUND"):
        suspension.suspend_member(store, BANK, "why")
