"""Join tokens: making them, and ending them with or without those who came in by them.

One token lets several members in, so whoever gets hold of it can make up as many members as it has
uses left. It is for roles of which many are alike and none is trusted alone.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import InvalidArgumentError, NotFoundError, StateError
from finsecure_crypto.randomness import Randomness

from finsecure_keyservice.admission_keys import JoinToken, Pepper
from finsecure_keyservice.federations import get_federation
from finsecure_keyservice.join_token_store import JoinTokenRecord
from finsecure_keyservice.members import get_member, revoke_member
from finsecure_keyservice.records import MemberState
from finsecure_keyservice.store import Store

MOST_USES = 1000
"""Most members that one token lets in."""

_ROLES = frozenset({Role.CLIENT, Role.AGGREGATOR})


class Standing(Enum):
    """What a token is good for."""

    ACTIVE = "active"
    SPENT = "spent"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Invitation:
    """What an operator wants a token to do.

    Attributes:
        parent: `federations/{federation}`.
        role: of who comes.
        id_prefix: what their ids begin with.
        maximum_uses: how many may come.
        lifetime: how long they may.
    """

    parent: str
    role: Role
    id_prefix: str
    maximum_uses: int
    lifetime: timedelta


@dataclass(frozen=True)
class JoinTokenIssuer:
    """Makes join tokens and the records by which they are known again."""

    pepper: Pepper
    longest: timedelta
    randomness: Randomness

    def issue(
        self, store: Store, wanted: Invitation, now: datetime
    ) -> tuple[JoinTokenRecord, JoinToken]:
        """Make a token.

        Raises:
            InvalidArgumentError: JOIN_ROLE_REFUSED, JOIN_LIFETIME_REFUSED.
            NotFoundError: FEDERATION_NOT_FOUND.
        """
        if wanted.role not in _ROLES:
            raise InvalidArgumentError(
                "JOIN_ROLE_REFUSED",
                "a join token makes clients or aggregators; register a trustee or a person by "
                "itself, and hand it an API key",
            )
        if not timedelta(0) < wanted.lifetime <= self.longest:
            raise InvalidArgumentError(
                "JOIN_LIFETIME_REFUSED",
                f"a join token lives at most {self.longest / timedelta(hours=1):g} hours here, "
                "and not for no time at all; ask for less",
            )
        get_federation(store, wanted.parent)
        token = JoinToken.generate(self.randomness)
        record = JoinTokenRecord(
            token.id,
            wanted.parent,
            wanted.role,
            wanted.id_prefix,
            token.digest(self.pepper()),
            wanted.maximum_uses,
            now,
            now + wanted.lifetime,
        )
        store.join_tokens.add(record)
        store.trail.record(
            "join-token.create",
            record.name,
            role=record.role.value,
            id_prefix=record.id_prefix,
            maximum_uses=record.maximum_uses,
            expire_time=record.expire_time.isoformat(),
        )
        return record, token


def standing(record: JoinTokenRecord, now: datetime) -> Standing:
    """Where a token stands."""
    if record.revoke_time is not None:
        return Standing.REVOKED
    if record.uses >= record.maximum_uses:
        return Standing.SPENT
    return Standing.EXPIRED if now >= record.expire_time else Standing.ACTIVE


def get(store: Store, name: str) -> JoinTokenRecord:
    """Read a token by its resource name.

    Raises:
        NotFoundError: JOIN_TOKEN_NOT_FOUND.
    """
    record = store.join_tokens.get(name.rpartition("/")[2])
    if record is None or record.name != name:
        raise NotFoundError(
            "JOIN_TOKEN_NOT_FOUND", f"there is no {name}; list the tokens for those there are"
        )
    return record


def revoke(
    store: Store, name: str, reason: str, now: datetime, *, with_members: bool
) -> tuple[JoinTokenRecord, list[str]]:
    """End a token, and the membership of all who came in by it if that is wanted.

    Returns:
        The token, and the members that were put out now.

    Raises:
        NotFoundError: JOIN_TOKEN_NOT_FOUND.
        StateError: JOIN_TOKEN_REVOKED if it is already, and nobody shall be put out.
    """
    record = get(store, name)
    if record.revoke_time is None:
        store.join_tokens.revoke(record.id, now)
    elif not with_members:
        raise StateError(
            "JOIN_TOKEN_REVOKED",
            f"{name} was revoked before; ask for its members to be revoked if that is meant",
        )
    put_out = []
    if with_members:
        for join in store.join_tokens.joins(record.id, 0, MOST_USES):
            if get_member(store, join.member).state is not MemberState.REVOKED:
                revoke_member(store, join.member, reason, now)
                put_out.append(join.member)
    store.trail.record(
        "join-token.revoke", name, sealed={"reason": reason}, uses=record.uses, members=len(put_out)
    )
    return get(store, name), put_out
