"""Enrolment, renewal, revocation: the rules, without any network."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from finsecure_crypto.certificates import (
    Purpose,
    RevocationList,
    Role,
    SpiffeId,
    verify_certificate,
)
from finsecure_crypto.errors import (
    AuthenticationError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    StateError,
)
from finsecure_keyservice import members, revocation
from finsecure_keyservice.enrolment import Issued, Requests
from finsecure_keyservice.federations import create_federation
from finsecure_keyservice.records import MemberState
from finsecure_keyservice.sql_store import SqlStore

from tests.support.keyservice import (
    DOMAIN,
    START,
    Books,
    authority,
    enrolment,
    greedy_requests,
    hostile_tls_requests,
    issuer,
    requests,
)

BANK = "federations/lending/clients/bank-1"
OTHER = "federations/lending/clients/bank-2"
HOUR = timedelta(hours=1)


@pytest.fixture
def store() -> Iterator[SqlStore]:
    with Books().transaction() as store:
        create_federation(store, "federations/lending", "Lending", START)
        yield store


def _register(store: SqlStore, name: str = BANK) -> str:
    return members.create_member(store, issuer(), name, "", START)[1].expose()


def _enrol(store: SqlStore, name: str = BANK) -> Issued:
    return enrolment().enrol(store, _register(store, name), requests(), START)


def _identity(issued: Issued) -> SpiffeId:
    der, since = issued.tls.der, issued.tls.not_before
    return verify_certificate(der, authority().anchors, None, since, Purpose.TLS).spiffe_id


def test_a_new_member_gets_both_certificates_of_its_own_identity(store: SqlStore) -> None:
    key = _register(store)
    assert members.get_member(store, BANK).state is MemberState.INVITED
    issued = enrolment().enrol(store, key, requests(), START)
    assert issued.member.state is MemberState.ACTIVE
    expected = SpiffeId(f"lending.{DOMAIN}", Role.CLIENT, "bank-1")
    for record, purpose in ((issued.tls, Purpose.TLS), (issued.signing, Purpose.SIGNING)):
        certified = verify_certificate(record.der, authority().anchors, None, START, purpose)
        assert certified.spiffe_id == expected
        assert f"{certified.serial:x}" == record.serial
        assert store.certificate(record.serial) is not None


def test_a_key_is_spent_once_and_a_lost_reply_is_given_again(store: SqlStore) -> None:
    key, asked = _register(store), requests()
    first = enrolment().enrol(store, key, asked, START)
    again = enrolment().enrol(store, key, asked, START + 30 * 24 * HOUR)
    assert (again.tls.der, again.signing.der) == (first.tls.der, first.signing.der)
    assert len(store.certificates(BANK, None, 10)) == 2
    others = (
        requests(),
        Requests(asked.tls, requests().signing),
        Requests(asked.signing, asked.tls),
    )
    for other in others:
        with pytest.raises(AuthenticationError, match="API_KEY_SPENT"):
            enrolment().enrol(store, key, other, START)
    assert len(store.certificates(BANK, None, 10)) == 2


def test_who_repeats_for_ever_fills_no_log() -> None:
    books = Books()
    with books.transaction() as store:
        create_federation(store, "federations/lending", "", START)
        key, asked = _register(store), requests()
    answers = set()
    for _ in range(5):
        with books.transaction() as store:
            answers.add(enrolment().enrol(store, key, asked, START).tls.der)
    assert len(answers) == 1
    assert [event.action for event in books.events()].count("member.enrol-again") == 1


@pytest.mark.parametrize("wrong", sorted(hostile_tls_requests()))
def test_hostile_requests_are_refused_and_leave_the_key_unspent(wrong: str) -> None:
    books = Books()
    with books.transaction() as store:
        create_federation(store, "federations/lending", "", START)
        key = _register(store)
    good, bad = requests(), hostile_tls_requests()[wrong]
    for attempt in (Requests(bad, good.signing), Requests(good.tls, bad)):
        if wrong == "Ed25519" and attempt.signing == bad:
            continue  # that is what a signing request should be
        with pytest.raises(InvalidArgumentError) as caught, books.transaction() as store:
            enrolment().enrol(store, key, attempt, START)
        assert caught.value.code.startswith("REQUEST_")
    with books.transaction() as store:
        assert not store.certificates("", None, 10)
        enrolment().enrol(store, key, good, START)


def test_wishes_in_a_request_are_ignored(store: SqlStore) -> None:
    issued = enrolment().enrol(store, _register(store), greedy_requests(), START)
    # Verification is strict about every extension, so passing it means that none was granted.
    assert _identity(issued) == SpiffeId(f"lending.{DOMAIN}", Role.CLIENT, "bank-1")


def test_a_wrong_key_is_refused_before_the_requests_are_looked_at(store: SqlStore) -> None:
    key = _register(store)
    never_stored = members.ApiKey.generate(lambda length: bytes(length)).expose()
    forged = members.ApiKey(
        members.ApiKey.parse(key).id, members.ApiKey.parse(never_stored).secret
    ).expose()
    garbage = Requests(b"x", b"y")
    for attempt, code in (
        ("fs_", "API_KEY_MALFORMED"),
        (key[:-1], "API_KEY_MALFORMED"),
        (never_stored, "API_KEY_REJECTED"),
        (forged, "API_KEY_REJECTED"),
    ):
        with pytest.raises(AuthenticationError) as caught:
            enrolment().enrol(store, attempt, garbage, START)
        assert caught.value.code == code
        assert attempt not in str(caught.value) or attempt == "fs_"


def test_keys_expire_and_a_newer_key_voids_them(store: SqlStore) -> None:
    old = _register(store)
    with pytest.raises(AuthenticationError, match="API_KEY_EXPIRED"):
        enrolment().enrol(store, old, requests(), START + timedelta(days=7))
    new = members.issue_api_key(store, issuer(), BANK, START).expose()
    with pytest.raises(AuthenticationError, match="API_KEY_REJECTED"):
        enrolment().enrol(store, old, requests(), START)
    assert enrolment().enrol(store, new, requests(), START).member.name == BANK


def test_renewal_keeps_the_identity_and_may_keep_the_keys(store: SqlStore) -> None:
    key, asked = _register(store), requests()
    first = enrolment().enrol(store, key, asked, START)
    later = START + 12 * HOUR
    for again in (asked, requests()):
        renewed = enrolment().renew(store, _identity(first), first.tls.serial, again, later)
        assert _identity(renewed) == _identity(first)
        assert renewed.tls.not_after > first.tls.not_after
        assert renewed.tls.serial != first.tls.serial


def test_renewal_is_for_the_caller_that_the_certificate_is_of(store: SqlStore) -> None:
    first, second = _enrol(store), _enrol(store, OTHER)
    with pytest.raises(PermissionDeniedError, match="NOT_A_MEMBER"):
        enrolment().renew(store, _identity(first), second.tls.serial, requests(), START)
    with pytest.raises(PermissionDeniedError, match="NOT_A_MEMBER"):
        enrolment().renew(store, _identity(first), "abc", requests(), START)


def test_the_revoked_neither_renew_nor_enrol(store: SqlStore) -> None:
    issued = _enrol(store)
    unused = members.issue_api_key(store, issuer(), BANK, START).expose()
    revocation.revoke_certificate(store, issued.tls.serial, "lost", START)
    with pytest.raises(AuthenticationError, match="CERTIFICATE_REVOKED"):
        enrolment().renew(store, _identity(issued), issued.tls.serial, requests(), START)
    with pytest.raises(StateError, match="CERTIFICATE_REVOKED"):
        revocation.revoke_certificate(store, issued.tls.serial, "again", START)
    members.revoke_member(store, BANK, "left", START)
    with pytest.raises(AuthenticationError, match="API_KEY_REJECTED"):
        enrolment().enrol(store, unused, requests(), START)
    with pytest.raises(StateError, match="MEMBER_REVOKED"):
        enrolment().renew(store, _identity(issued), issued.signing.serial, requests(), START)
    with pytest.raises(StateError, match="MEMBER_REVOKED"):
        members.issue_api_key(store, issuer(), BANK, START)
    with pytest.raises(StateError, match="MEMBER_REVOKED"):
        members.revoke_member(store, BANK, "twice", START)
    with pytest.raises(ConflictError, match="MEMBER_EXISTS"):
        _register(store)


def test_a_spent_key_of_a_revoked_member_gives_nothing_again(store: SqlStore) -> None:
    key, asked = _register(store), requests()
    enrolment().enrol(store, key, asked, START)
    members.revoke_member(store, BANK, "left", START)
    with pytest.raises(StateError, match="MEMBER_REVOKED"):
        enrolment().enrol(store, key, asked, START)


def test_public_keys_of_others_and_suspect_ones_are_not_certified(store: SqlStore) -> None:
    key, asked = _register(store), requests()
    issued = enrolment().enrol(store, key, asked, START)
    with pytest.raises(InvalidArgumentError, match="KEY_TAKEN"):
        enrolment().enrol(store, _register(store, OTHER), asked, START)
    revocation.revoke_certificate(store, issued.signing.serial, "stolen", START)
    fresh = members.issue_api_key(store, issuer(), BANK, START).expose()
    with pytest.raises(InvalidArgumentError, match="KEY_TAKEN"):
        enrolment().enrol(store, fresh, Requests(requests().tls, asked.signing), START)


def test_the_revocation_list_holds_what_has_not_expired_long_ago(store: SqlStore) -> None:
    first, second = _enrol(store), _enrol(store, OTHER)
    revocation.revoke_certificate(store, first.tls.serial, "lost", START)
    members.revoke_member(store, OTHER, "left", START)
    gone = {int(record.serial, 16) for record in (first.tls, second.tls, second.signing)}

    def listed(after: timedelta) -> RevocationList:
        now = START + after
        record = revocation.rebuild_list(store, authority(), now, HOUR)
        assert store.revocation_list() == record
        return RevocationList.parse(record.der, authority().anchors, now)

    assert listed(timedelta(0)).serials == gone
    # A receiver whose clock is slow would still accept a certificate that has just expired.
    assert listed(24 * HOUR + timedelta(minutes=30)).serials == gone
    last = listed(26 * HOUR)
    assert last.serials == set()
    assert last.number == 3


def test_the_last_operator_stays() -> None:
    with Books().transaction() as store:
        _enrol(store, "operators/alice")
        _register(store, "operators/bob")
        with pytest.raises(StateError, match="LAST_OPERATOR"):
            members.revoke_member(store, "operators/alice", "", START)
        key = members.issue_api_key(store, issuer(), "operators/bob", START).expose()
        enrolment().enrol(store, key, requests(), START)
        members.revoke_member(store, "operators/alice", "left", START)
        with pytest.raises(StateError, match="LAST_OPERATOR"):
            members.revoke_member(store, "operators/bob", "", START)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "operators",
        "operators/",
        "operators/Alice",
        "operators/alice\n",
        "operators/a",
        "operators/alice-",
        "operators/../bob",
        "federations/lending/clients/../x",
        "federations/lending/operators/alice",
        "federations/lending/keyservices/main",
        "federations//clients/bank-1",
        "federations/lending/clients/bank%2f1",
        "federations/lending/clients/" + "a" * 41,
        "clients/bank-1",
        "operators/аlice",  # noqa: RUF001  # a Cyrillic letter
    ],
)
def test_names_with_tricks_are_refused(store: SqlStore, name: str) -> None:
    attempts: tuple[Callable[[], object], ...] = (
        lambda: members.get_member(store, name),
        lambda: members.create_member(store, issuer(), name, "", START),
        lambda: members.revoke_member(store, name, "why", START),
        lambda: members.issue_api_key(store, issuer(), name, START),
    )
    for attempt in attempts:
        with pytest.raises(InvalidArgumentError, match="NAME_MALFORMED"):
            attempt()


def test_members_need_their_federation(store: SqlStore) -> None:
    with pytest.raises(NotFoundError, match="FEDERATION_NOT_FOUND"):
        _register(store, "federations/other/clients/bank-1")
    with pytest.raises(NotFoundError, match="MEMBER_NOT_FOUND"):
        members.get_member(store, BANK)
    with pytest.raises(ConflictError, match="FEDERATION_EXISTS"):
        create_federation(store, "federations/lending", "", START)
