"""Join tokens: who comes in by them, under which id, how often, and what ends them."""

import os
from datetime import timedelta

import pytest
from finsecure_crypto.certificates import Purpose, Role, SpiffeId, verify_certificate
from finsecure_crypto.errors import (
    AuthenticationError,
    ConflictError,
    FinSecureError,
    InvalidArgumentError,
    NotFoundError,
    StateError,
)
from finsecure_keyservice import join_tokens, members
from finsecure_keyservice.admission_keys import ApiKey, JoinToken
from finsecure_keyservice.enrolment import Issued, Requests
from finsecure_keyservice.federations import create_federation
from finsecure_keyservice.join_token_store import JoinTokenRecord
from finsecure_keyservice.join_tokens import Invitation, JoinTokenIssuer, Standing, standing
from finsecure_keyservice.joining import join
from finsecure_keyservice.records import MemberState

from tests.support.keyservice import (
    DOMAIN,
    PEPPER,
    START,
    Books,
    authority,
    enrolment,
    hostile_tls_requests,
    issuer,
    requests,
)

LENDING = "federations/lending"
HOUR = timedelta(hours=1)


@pytest.fixture
def books() -> Books:
    books = Books()
    with books.transaction() as store:
        create_federation(store, LENDING, "Lending", START)
    return books


def _issuer() -> JoinTokenIssuer:
    return JoinTokenIssuer(lambda: PEPPER, 48 * HOUR, os.urandom)


def _invite(books: Books, uses: int = 3, role: Role = Role.CLIENT) -> tuple[JoinTokenRecord, str]:
    wanted = Invitation(LENDING, role, "branch-", uses, 24 * HOUR)
    with books.transaction() as store:
        record, token = _issuer().issue(store, wanted, START)
    return record, token.expose()


def _join(
    books: Books,
    token: str,
    member_id: str,
    asked: Requests | None = None,
    after: timedelta = timedelta(0),
) -> Issued:
    with books.transaction() as store:
        return join(enrolment(), store, token, member_id, asked or requests(), START + after)


def _refusal(
    books: Books,
    token: str,
    member_id: str,
    asked: Requests | None = None,
    after: timedelta = timedelta(0),
) -> tuple[type[FinSecureError], str, str]:
    with pytest.raises(FinSecureError) as caught:
        _join(books, token, member_id, asked, after)
    return type(caught.value), caught.value.code, str(caught.value)


def _uses(books: Books, record: JoinTokenRecord) -> int:
    with books.transaction() as store:
        return join_tokens.get(store, record.name).uses


def test_a_newcomer_is_a_member_of_the_tokens_role_with_certificates_of_its_id(
    books: Books,
) -> None:
    for role, collection in ((Role.CLIENT, "clients"), (Role.AGGREGATOR, "aggregators")):
        record, token = _invite(books, role=role)
        issued = _join(books, token, "branch-7")
        assert issued.member.name == f"{LENDING}/{collection}/branch-7"
        assert issued.member.state is MemberState.ACTIVE
        for made, purpose in ((issued.tls, Purpose.TLS), (issued.signing, Purpose.SIGNING)):
            found = verify_certificate(made.der, authority().anchors, None, START, purpose)
            assert found.spiffe_id == SpiffeId(f"lending.{DOMAIN}", role, "branch-7")
        events = {event.action: event for event in books.events()}
        assert events["member.join"].subject == issued.member.name
        assert events["member.join"].details["token"] == record.name
        assert events["member.create"].subject == issued.member.name


def test_a_token_lets_in_as_many_as_it_says(books: Books) -> None:
    record, token = _invite(books, uses=2)
    for number in (1, 2):
        _join(books, token, f"branch-{number}")
        assert _uses(books, record) == number
    assert _refusal(books, token, "branch-3")[1] == "JOIN_TOKEN_SPENT"
    # Who it cannot let in any more learns nothing of who is there.
    assert _refusal(books, token, "branch-1") == _refusal(books, token, "branch-3")
    assert _uses(books, record) == 2


def test_a_lost_reply_is_given_again_and_spends_one_use(books: Books) -> None:
    record, token = _invite(books, uses=1)
    asked = requests()
    first = _join(books, token, "branch-1", asked)
    again = _join(books, token, "branch-1", asked, after=48 * HOUR)
    assert (again.tls.der, again.signing.der) == (first.tls.der, first.signing.der)
    assert _uses(books, record) == 1
    with books.transaction() as store:
        assert len(store.certificates(first.member.name, None, 10)) == 2


def test_who_repeats_for_ever_fills_no_log(books: Books) -> None:
    _, token = _invite(books)
    asked = requests()
    answers = {_join(books, token, "branch-1", asked).tls.der for _ in range(5)}
    assert len(answers) == 1
    _join(books, token, "branch-2")
    actions = [event.action for event in books.events()]
    assert actions.count("member.join-again") == 1
    assert actions[-1] == "member.join"


def test_an_id_that_was_ever_had_is_refused_in_one_way(books: Books) -> None:
    record, token = _invite(books, uses=9)
    _, other = _invite(books, uses=9)
    mine, stranger = requests(), requests()
    with books.transaction() as store:
        for member_id in ("invited", "enrolled", "revoked"):
            name = f"{LENDING}/clients/branch-{member_id}"
            key = members.create_member(store, issuer(), name, "", START)[1].expose()
            if member_id != "invited":
                enrolment().enrol(store, key, requests(), START)
            if member_id == "revoked":
                members.revoke_member(store, name, "left", START)
    _join(books, token, "branch-joined", mine)
    _join(books, token, "branch-gone", stranger)
    with books.transaction() as store:
        members.revoke_member(store, f"{LENDING}/clients/branch-gone", "left", START)
    answers = {
        (kind, code, text.replace(member_id, "X"))
        for member_id in ("invited", "enrolled", "revoked", "joined", "gone")
        for kind, code, text in [_refusal(books, token, f"branch-{member_id}")]
    }
    assert {(kind, code) for kind, code, _ in answers} == {(ConflictError, "JOIN_ID_TAKEN")}
    assert len(answers) == 1
    # The same requests with another token are not the same request.
    assert _refusal(books, other, "branch-joined", mine)[1] == "JOIN_ID_TAKEN"
    # Who was put out gets nothing again, not even what it had.
    assert _refusal(books, token, "branch-gone", stranger)[:2] == (StateError, "MEMBER_REVOKED")
    assert _uses(books, record) == 2


@pytest.mark.parametrize(
    ("member_id", "code"),
    [
        ("bank-1", "JOIN_ID_REFUSED"),
        ("branch", "JOIN_ID_REFUSED"),
        ("Branch-1", "JOIN_ID_REFUSED"),
        ("branch-", "NAME_MALFORMED"),
        ("branch-1/../../x", "NAME_MALFORMED"),
        ("branch-1\n", "NAME_MALFORMED"),
        ("branch-" + "1" * 40, "NAME_MALFORMED"),
    ],
)
def test_ids_are_those_of_the_prefix(books: Books, member_id: str, code: str) -> None:
    record, token = _invite(books)
    assert _refusal(books, token, member_id)[:2] == (InvalidArgumentError, code)
    assert _uses(books, record) == 0


def test_a_prefix_cannot_make_ids_of_people_with_tokens(books: Books) -> None:
    with books.transaction() as store:
        wanted = Invitation(LENDING, Role.CLIENT, "oidc", 1, HOUR)
        token = _issuer().issue(store, wanted, START)[1].expose()
    assert _refusal(books, token, "oidc-mallory")[1] == "NAME_RESERVED"


def test_a_wrong_token_is_refused_before_anything_else_is_looked_at(books: Books) -> None:
    record, token = _invite(books)
    stranger = JoinToken.generate(os.urandom)
    forged = JoinToken(record.id, stranger.secret).expose()
    api_key = ApiKey(record.id, JoinToken.parse(token).secret).expose()
    garbage = Requests(b"x", b"y")
    for attempt, code in (
        (token[:-1], "JOIN_TOKEN_MALFORMED"),
        (api_key, "JOIN_TOKEN_MALFORMED"),
        (stranger.expose(), "JOIN_TOKEN_REJECTED"),
        (forged, "JOIN_TOKEN_REJECTED"),
    ):
        kind, found, text = _refusal(books, attempt, "nothing", garbage)
        assert (kind, found) == (AuthenticationError, code)
        assert attempt not in text


def test_the_same_secret_is_no_api_key(books: Books) -> None:
    _, token = _invite(books)
    key = JoinToken.parse(token)
    assert key.digest(PEPPER) != ApiKey(key.id, key.secret).digest(PEPPER)
    with books.transaction() as store, pytest.raises(AuthenticationError, match="MALFORMED"):
        enrolment().enrol(store, token, requests(), START)


@pytest.mark.parametrize("wrong", ["empty", "signature changed", "RSA"])
def test_hostile_requests_spend_no_use_and_make_no_member(books: Books, wrong: str) -> None:
    record, token = _invite(books)
    bad = Requests(hostile_tls_requests()[wrong], requests().signing)
    kind, code, _ = _refusal(books, token, "branch-1", bad)
    assert kind is InvalidArgumentError
    assert code.startswith("REQUEST_")
    with books.transaction() as store:
        assert not store.members(LENDING, "", 10)
        assert not store.certificates("", None, 10)
    assert _uses(books, record) == 0


def test_keys_of_another_member_are_not_certified(books: Books) -> None:
    record, token = _invite(books)
    asked = requests()
    _join(books, token, "branch-1", asked)
    assert _refusal(books, token, "branch-2", asked)[1] == "KEY_TAKEN"
    assert _uses(books, record) == 1


def test_its_time_ends_a_token(books: Books) -> None:
    _, token = _invite(books)
    assert _refusal(books, token, "branch-1", after=24 * HOUR)[1] == "JOIN_TOKEN_EXPIRED"
    _join(books, token, "branch-1", after=24 * HOUR - timedelta(seconds=1))


def test_a_revoked_token_is_void_at_once(books: Books) -> None:
    record, token = _invite(books)
    asked = requests()
    joined = _join(books, token, "branch-1", asked)
    with books.transaction() as store:
        revoked, put_out = join_tokens.revoke(store, record.name, "leak", START, with_members=False)
        assert (standing(revoked, START), put_out) == (Standing.REVOKED, [])
    for member_id, again in (("branch-2", requests()), ("branch-1", asked)):
        assert _refusal(books, token, member_id, again)[1] == "JOIN_TOKEN_REJECTED"
    with books.transaction() as store:
        assert members.get_member(store, joined.member.name).state is MemberState.ACTIVE
        with pytest.raises(StateError, match="JOIN_TOKEN_REVOKED"):
            join_tokens.revoke(store, record.name, "again", START, with_members=False)


def test_all_who_came_by_a_token_are_put_out_and_nobody_else(books: Books) -> None:
    record, token = _invite(books)
    _, other = _invite(books)
    asked = requests()
    first = _join(books, token, "branch-1", asked)
    _join(books, token, "branch-2")
    kept = _join(books, other, "branch-3").member.name

    def revoke() -> list[str]:
        with books.transaction() as store:
            return join_tokens.revoke(store, record.name, "leak", START, with_members=True)[1]

    assert revoke() == [f"{LENDING}/clients/branch-1", f"{LENDING}/clients/branch-2"]
    with books.transaction() as store:
        gone = members.get_member(store, first.member.name)
        assert gone.state is MemberState.REVOKED
        assert len(store.revoked(START)) == 4
        assert members.get_member(store, kept).state is MemberState.ACTIVE
    assert revoke() == []  # asked again, of a token that is revoked
    assert _refusal(books, other, "branch-1", asked)[1] == "JOIN_ID_TAKEN"


@pytest.mark.parametrize(
    "role", [Role.TRUSTEE, Role.OPERATOR, Role.OFFICER, Role.VIEWER, Role.KEYSERVICE]
)
def test_no_token_makes_a_trustee_or_a_person(books: Books, role: Role) -> None:
    with pytest.raises(InvalidArgumentError, match="JOIN_ROLE_REFUSED"):
        _invite(books, role=role)


@pytest.mark.parametrize("hours", [-1, 0, 48.01])
def test_its_life_is_bounded_by_the_configuration(books: Books, hours: float) -> None:
    wanted = Invitation(LENDING, Role.CLIENT, "branch-", 1, timedelta(hours=hours))
    with books.transaction() as store, pytest.raises(InvalidArgumentError, match="JOIN_LIFETIME"):
        _issuer().issue(store, wanted, START)


def test_tokens_are_listed_by_federation_newest_first(books: Books) -> None:
    made = [_invite(books)[0].name for _ in range(3)]
    with books.transaction() as store:
        create_federation(store, "federations/cards", "", START)
        listed: list[str] = []
        before: int | None = None
        while page := store.join_tokens.page(LENDING, before, 2):
            listed += [record.name for record in page]
            before = page[-1].sequence
        assert listed == made[::-1]
        assert not store.join_tokens.page("federations/cards", None, 10)
        with pytest.raises(NotFoundError, match="JOIN_TOKEN_NOT_FOUND"):
            join_tokens.get(store, made[0].replace("lending", "cards"))


def test_the_store_and_the_log_hold_nothing_that_opens_anything(books: Books) -> None:
    _, token = _invite(books)
    _join(books, token, "branch-1")
    secret = token.split("_", 2)[2][:43]
    dump = "\n".join(books.engine.raw_connection().iterdump())  # type: ignore[attr-defined]
    assert "branch-1" in dump
    assert secret not in dump
    assert JoinToken.parse(token).secret.expose().hex() not in dump.lower()
    assert secret not in "".join(str(event) for event in books.events())
