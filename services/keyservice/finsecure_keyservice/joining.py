"""Coming in by a join token: a new member under an id of its own choice, with its certificates.

Everything happens inside one store transaction, as in `enrolment.py`; the same call gets the same
answer again and spends one use.
"""

from datetime import datetime

from finsecure_crypto.errors import AuthenticationError, ConflictError, InvalidArgumentError

from finsecure_keyservice.admission_keys import JoinToken
from finsecure_keyservice.enrolment import Enrolment, Issued, Requests, certificates_of
from finsecure_keyservice.join_token_store import JoinRecord, JoinTokenRecord
from finsecure_keyservice.join_tokens import Standing, standing
from finsecure_keyservice.members import get_member, register, require_member_in_good_standing
from finsecure_keyservice.names import MemberName, federation_id
from finsecure_keyservice.records import Spending
from finsecure_keyservice.store import Store


def join(
    enrolment: Enrolment,
    store: Store,
    join_token: str,
    member_id: str,
    requests: Requests,
    now: datetime,
) -> Issued:
    """Spend one use of a join token.

    The token is checked before anything else of the request is looked at. A token that lets nobody
    in any more does not tell which ids exist.

    Raises:
        AuthenticationError: JOIN_TOKEN_MALFORMED, JOIN_TOKEN_REJECTED (unknown, wrong or revoked),
            JOIN_TOKEN_EXPIRED, JOIN_TOKEN_SPENT.
        ConflictError: JOIN_ID_TAKEN, whoever has or had the id, and however it came by it.
        StateError: MEMBER_REVOKED, MEMBER_SUSPENDED (to who repeats its own request),
            AUTHORITY_EXPIRED.
        InvalidArgumentError: JOIN_ID_REFUSED, NAME_MALFORMED, NAME_RESERVED; what `check_request`
            raises; KEY_TAKEN.
    """
    token = JoinToken.parse(join_token)
    record = store.join_tokens.get(token.id)
    if (
        not token.matches(enrolment.pepper(), record.digest if record else None)
        or record is None
        or record.revoke_time is not None
    ):
        raise AuthenticationError(
            "JOIN_TOKEN_REJECTED", "this join token is not valid; ask your operator for a new one"
        )
    place = _place(record, member_id)
    earlier = store.join_tokens.join_of(str(place))
    if (
        earlier is not None
        and earlier.token == record.id
        and earlier.spending.requests_digest == requests.digest()
    ):
        return _repeat(store, record, earlier)
    _require_open(record, now)
    if store.member(str(place)) is not None:
        raise ConflictError(
            "JOIN_ID_TAKEN",
            f"the id {member_id} cannot be had; choose another, or ask your operator",
        )
    member = register(store, place, "", now)
    tls, signing = enrolment.certify(
        store, place.spiffe_id(enrolment.domain), member.name, requests, now
    )
    spending = Spending(now, requests.digest(), tls.serial, signing.serial)
    store.join_tokens.add_join(JoinRecord(member.name, record.id, spending))
    store.activate_member(member.name)
    store.trail.record("member.join", member.name, token=record.name)
    return Issued(get_member(store, member.name), tls, signing)


def _place(record: JoinTokenRecord, member_id: str) -> MemberName:
    if not member_id.startswith(record.id_prefix):
        raise InvalidArgumentError(
            "JOIN_ID_REFUSED",
            f"this join token lets in ids that begin with {record.id_prefix}; choose such a one",
        )
    name = MemberName(federation_id(record.parent), record.role, member_id)
    return MemberName.parse(str(name))


def _require_open(record: JoinTokenRecord, now: datetime) -> None:
    """Refuse a token that lets nobody in any more."""
    match standing(record, now):
        case Standing.SPENT:
            raise AuthenticationError(
                "JOIN_TOKEN_SPENT",
                "this join token has let in as many as it may; if you are not one of them, tell "
                "your operator, and ask for a new one",
            )
        case Standing.EXPIRED:
            raise AuthenticationError(
                "JOIN_TOKEN_EXPIRED",
                "the time of this join token is over; ask your operator for a new one",
            )


def _repeat(store: Store, token: JoinTokenRecord, earlier: JoinRecord) -> Issued:
    member = get_member(store, earlier.member)
    require_member_in_good_standing(member)
    tls, signing = certificates_of(store, earlier.spending)
    if store.join_tokens.note_repetition(member.name):
        store.trail.record("member.join-again", member.name, token=token.name)
    else:
        store.trail.nothing_new()
    return Issued(member, tls, signing)
