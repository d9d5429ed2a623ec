"""Suspending a member for a while: its certificates stay, and count for nothing until it is back.

The revocation list carries them with the reason certificateHold (RFC 5280, section 5.3.1), so the
suspension takes effect wherever a revocation would: on the next call, and on open streams.
"""

from finsecure_crypto.errors import StateError

from finsecure_keyservice.members import get_member, require_not_last_operator, require_not_revoked
from finsecure_keyservice.records import MemberRecord, MemberState
from finsecure_keyservice.store import Store


def suspend_member(store: Store, name: str, reason: str) -> MemberRecord:
    """Let a member do nothing until it is reactivated; unspent API keys are void.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: MEMBER_NOT_FOUND.
        StateError: MEMBER_REVOKED, MEMBER_SUSPENDED if it is already, LAST_OPERATOR.
    """
    member = get_member(store, name)
    require_not_revoked(member)
    if member.state is MemberState.SUSPENDED:
        raise StateError("MEMBER_SUSPENDED", f"{name} is suspended already")
    require_not_last_operator(store, member)
    store.set_member_state(name, MemberState.SUSPENDED)
    store.void_api_keys(name)
    store.trail.record("member.suspend", name, sealed={"reason": reason})
    return get_member(store, name)


def reactivate_member(store: Store, name: str) -> MemberRecord:
    """Let a suspended member go on with the certificates that it has.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: MEMBER_NOT_FOUND.
        StateError: MEMBER_REVOKED, or MEMBER_NOT_SUSPENDED.
    """
    member = get_member(store, name)
    require_not_revoked(member)
    if member.state is not MemberState.SUSPENDED:
        raise StateError("MEMBER_NOT_SUSPENDED", f"{name} is not suspended")
    enrolled = bool(store.certificates(name, None, 1))
    state = MemberState.ACTIVE if enrolled else MemberState.INVITED
    store.set_member_state(name, state)
    store.trail.record("member.reactivate", name)
    return get_member(store, name)
