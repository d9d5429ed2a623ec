"""Who belongs to which federation: registering members, their API keys, ending memberships.

Functions of a store transaction, explicit time and explicit randomness. Nobody but operators
gets here (see `policy.py`), so "not found" tells nothing to anybody else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    StateError,
)
from finsecure_crypto.randomness import Randomness
from finsecure_rpc.bearer import BEARER_PREFIX

from finsecure_keyservice.admission_keys import ApiKey, Pepper
from finsecure_keyservice.federations import get_federation
from finsecure_keyservice.names import MemberName
from finsecure_keyservice.records import ApiKeyRecord, MemberRecord, MemberState
from finsecure_keyservice.store import Store

_MOST_SHOWN = 1000


@dataclass(frozen=True)
class ApiKeyIssuer:
    """Makes API keys and the records by which they are known again."""

    pepper: Pepper
    lifetime: timedelta
    randomness: Randomness

    def issue(self, store: Store, member: str, now: datetime) -> ApiKey:
        """Give a member a new key; its unspent ones become void."""
        key = ApiKey.generate(self.randomness)
        store.void_api_keys(member)
        store.add_api_key(
            ApiKeyRecord(key.id, member, key.digest(self.pepper()), now, now + self.lifetime)
        )
        store.trail.record("api-key.issue", member, key=key.id)
        return key


def create_member(
    store: Store, issuer: ApiKeyIssuer, name: str, display_name: str, now: datetime
) -> tuple[MemberRecord, ApiKey]:
    """Register a member and make its first API key.

    Raises:
        InvalidArgumentError: NAME_MALFORMED, or NAME_RESERVED.
        NotFoundError: FEDERATION_NOT_FOUND.
        ConflictError: MEMBER_EXISTS; also for revoked members, whose names are never given again.
    """
    member = register(store, MemberName.parse(name), display_name, now)
    return member, issuer.issue(store, name, now)


def register(store: Store, place: MemberName, display_name: str, now: datetime) -> MemberRecord:
    """Add a member that has not enrolled yet.

    Raises:
        InvalidArgumentError: NAME_RESERVED.
        NotFoundError: FEDERATION_NOT_FOUND.
        ConflictError: MEMBER_EXISTS; also for revoked members, whose names are never given again.
    """
    if place.id.startswith(BEARER_PREFIX):
        raise InvalidArgumentError(
            "NAME_RESERVED",
            f"ids that begin with {BEARER_PREFIX} are those of tokens; choose another",
        )
    if place.federation is not None:
        get_federation(store, place.parent)
    name = str(place)
    if store.member(name) is not None:
        raise ConflictError(
            "MEMBER_EXISTS",
            f"{name} exists already; issue it an API key, or choose another id if it was revoked",
        )
    member = MemberRecord(name, place.parent, place.role, display_name, MemberState.INVITED, now)
    store.add_member(member)
    store.trail.record("member.create", name, role=member.role.value)
    return member


def get_member(store: Store, name: str) -> MemberRecord:
    """Read a member.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: MEMBER_NOT_FOUND.
    """
    MemberName.parse(name)
    member = store.member(name)
    if member is None:
        raise NotFoundError(
            "MEMBER_NOT_FOUND", f"there is no {name}; list the members for those there are"
        )
    return member


def list_members(store: Store, parent: str, after: str, limit: int) -> Sequence[MemberRecord]:
    """Read at most `limit` members of a federation, or the operators, from behind a name.

    Raises:
        NotFoundError: FEDERATION_NOT_FOUND.
    """
    if parent:
        get_federation(store, parent)
    return store.members(parent, after, limit)


def issue_api_key(store: Store, issuer: ApiKeyIssuer, name: str, now: datetime) -> ApiKey:
    """Give a member a new API key, for its first enrolment or after it lost its keys.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: MEMBER_NOT_FOUND.
        StateError: MEMBER_REVOKED.
    """
    require_member_in_good_standing(get_member(store, name))
    return issuer.issue(store, name, now)


def reissue_credentials(
    store: Store, issuer: ApiKeyIssuer, name: str, reason: str, now: datetime
) -> tuple[ApiKey, Sequence[str]]:
    """Answer a leak: all that a member has becomes worthless, and it gets a new API key.

    Whoever held a leaked key may have enrolled or renewed with it, so no certificate is kept.

    Returns:
        The key, and the serial numbers of the certificates that were valid until now, newest
        first; at most 1000.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: MEMBER_NOT_FOUND.
        StateError: MEMBER_REVOKED.
    """
    require_member_in_good_standing(get_member(store, name))
    ended = [
        certificate.serial
        for certificate in store.certificates(name, None, _MOST_SHOWN)
        if certificate.revoke_time is None and certificate.not_after > now
    ]
    store.revoke_certificates_of(name, now, reason)
    store.trail.record("member.reissue", name, sealed={"reason": reason}, certificates=len(ended))
    return issuer.issue(store, name, now), ended


def revoke_member(store: Store, name: str, reason: str, now: datetime) -> MemberRecord:
    """End a membership: state, certificates and unspent API keys at once.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: MEMBER_NOT_FOUND.
        StateError: MEMBER_REVOKED if it is already; LAST_OPERATOR if nobody could administer
            afterwards.
    """
    member = get_member(store, name)
    require_not_revoked(member)
    require_not_last_operator(store, member)
    store.revoke_member(name, now, reason)
    store.void_api_keys(name)
    store.revoke_certificates_of(name, now, reason)
    store.trail.record("member.revoke", name, sealed={"reason": reason})
    return get_member(store, name)


def require_not_last_operator(store: Store, member: MemberRecord) -> None:
    """Refuse to put out the only operator.

    Raises:
        StateError: LAST_OPERATOR.
    """
    if (
        member.role is Role.OPERATOR
        and member.state is MemberState.ACTIVE
        and store.count_operators(MemberState.ACTIVE) == 1
    ):
        raise StateError(
            "LAST_OPERATOR",
            "this is the only enrolled operator; enrol another one before you put it out",
        )


def require_member_in_good_standing(member: MemberRecord) -> None:
    """Refuse a revoked or suspended member.

    Raises:
        StateError: MEMBER_REVOKED or MEMBER_SUSPENDED.
    """
    require_not_revoked(member)
    if member.state is MemberState.SUSPENDED:
        raise StateError(
            "MEMBER_SUSPENDED", f"{member.name} is suspended; have it reactivated first"
        )


def require_enrolled(store: Store, name: str) -> None:
    """Refuse to name somebody who is no enrolled member, or is suspended or out.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        StateError: MEMBER_NOT_ACTIVE; whoever names it.
    """
    MemberName.parse(name)
    member = store.member(name)
    if member is None or member.state is not MemberState.ACTIVE:
        raise StateError(
            "MEMBER_NOT_ACTIVE", f"{name} is no enrolled, active member; list the members"
        )


def require_not_revoked(member: MemberRecord) -> None:
    """Refuse a revoked member.

    Raises:
        StateError: MEMBER_REVOKED.
    """
    if member.state is MemberState.REVOKED:
        raise StateError(
            "MEMBER_REVOKED",
            f"the membership of {member.name} has ended; register a new member under another id",
        )
