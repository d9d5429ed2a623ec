"""Join tokens, and who came in by them, in the key service's database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finsecure_crypto.certificates import Role
from sqlalchemy import Connection, Select, func, insert, select, update

from finsecure_keyservice.audit.trail import Recorder
from finsecure_keyservice.records import Spending
from finsecure_keyservice.schema import JOIN_TOKENS, JOINS


@dataclass(frozen=True)
class JoinTokenRecord:
    """A token as it is stored: no secret, only its HMAC; `sequence` counts tokens.

    `uses` is the number of members that came in by it: it is counted, not stored.
    """

    id: str
    parent: str
    role: Role
    id_prefix: str
    digest: bytes
    maximum_uses: int
    create_time: datetime
    expire_time: datetime
    revoke_time: datetime | None = None
    uses: int = 0
    sequence: int = 0

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"{self.parent}/joinTokens/{self.id}"


@dataclass(frozen=True)
class JoinRecord:
    """A member that came in by a token, and on what requests; `sequence` counts them."""

    member: str
    token: str
    spending: Spending
    sequence: int = 0


class JoinTokenStore:
    """Join tokens within one transaction; `trail` records what becomes of them."""

    def __init__(self, connection: Connection, trail: Recorder) -> None:
        self._connection = connection
        self.trail = trail

    def add(self, token: JoinTokenRecord) -> None:
        """Add a token that nobody has used; its `sequence` is given by the database."""
        self._connection.execute(
            insert(JOIN_TOKENS).values(
                id=token.id,
                parent=token.parent,
                role=token.role.value,
                id_prefix=token.id_prefix,
                digest=token.digest,
                maximum_uses=token.maximum_uses,
                create_time=token.create_time,
                expire_time=token.expire_time,
            )
        )

    def get(self, token_id: str) -> JoinTokenRecord | None:
        """Read one token."""
        query = _tokens().where(JOIN_TOKENS.c.id == token_id)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _token(row)

    def page(self, parent: str, before: int | None, limit: int) -> Sequence[JoinTokenRecord]:
        """At most `limit` tokens of a parent, newest first, made before sequence `before`."""
        query = (
            _tokens()
            .where(JOIN_TOKENS.c.parent == parent)
            .order_by(JOIN_TOKENS.c.sequence.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(JOIN_TOKENS.c.sequence < before)
        return [_token(row) for row in self._connection.execute(query).mappings()]

    def revoke(self, token_id: str, time: datetime) -> None:
        """Mark a token as revoked."""
        self._connection.execute(
            update(JOIN_TOKENS).where(JOIN_TOKENS.c.id == token_id).values(revoke_time=time)
        )

    def revoke_all(self, time: datetime) -> int:
        """Mark every token as revoked that was good for something; returns how many there were."""
        open_at = (JOIN_TOKENS.c.revoke_time.is_(None), JOIN_TOKENS.c.expire_time > time)
        revoked = self._connection.execute(
            update(JOIN_TOKENS).where(*open_at).values(revoke_time=time)
        )
        return revoked.rowcount

    def add_join(self, join: JoinRecord) -> None:
        """Note who came in by a token; its `sequence` is given by the database."""
        self._connection.execute(
            insert(JOINS).values(
                member=join.member,
                token=join.token,
                join_time=join.spending.time,
                requests_digest=join.spending.requests_digest,
                tls_serial=join.spending.tls_serial,
                signing_serial=join.spending.signing_serial,
                repeated=False,
            )
        )

    def note_repetition(self, member: str) -> bool:
        """Note that a member repeated its request; returns whether it is the first time."""
        first = (JOINS.c.member == member, JOINS.c.repeated.is_(False))
        noted = self._connection.execute(update(JOINS).where(*first).values(repeated=True))
        return noted.rowcount > 0

    def join_of(self, member: str) -> JoinRecord | None:
        """How a member came in, if it was by a token."""
        query = select(JOINS).where(JOINS.c.member == member)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _join(row)

    def joins(self, token_id: str, after: int, limit: int) -> Sequence[JoinRecord]:
        """At most `limit` members that came in by a token, oldest first, from behind `after`."""
        query = (
            select(JOINS)
            .where(JOINS.c.token == token_id, JOINS.c.sequence > after)
            .order_by(JOINS.c.sequence)
            .limit(limit)
        )
        return [_join(row) for row in self._connection.execute(query).mappings()]


def _tokens() -> Select[Any]:
    uses = select(func.count()).where(JOINS.c.token == JOIN_TOKENS.c.id).scalar_subquery()
    return select(JOIN_TOKENS, uses.label("uses"))


# Rows come as `Mapping[Any, Any]`: SQLAlchemy Core does not type columns.
def _token(row: Mapping[Any, Any]) -> JoinTokenRecord:
    return JoinTokenRecord(**{**row, "role": Role(row["role"])})


def _join(row: Mapping[Any, Any]) -> JoinRecord:
    spending = Spending(
        row["join_time"], row["requests_digest"], row["tls_serial"], row["signing_serial"]
    )
    return JoinRecord(row["member"], row["token"], spending, row["sequence"])
