"""Intermediate authorities in the key service's database, and who depends on which."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from finsecure_crypto.homomorphic.key_record import KeyState
from sqlalchemy import ColumnElement, Connection, and_, func, insert, select, update

from finsecure_keyservice.audit.trail import Recorder
from finsecure_keyservice.schema import AUTHORITIES, CERTIFICATES, ENCRYPTION_KEYS, ENDORSEMENTS


class AuthorityState(Enum):
    """Where an authority stands."""

    REQUESTED = "requested"  # waits for the root's signature
    PREPARED = "prepared"  # believed, does not issue yet
    ACTIVE = "active"  # issues and signs revocation lists; there is always one
    RETIRED = "retired"  # issues no more, what it issued is good
    TAINTED = "tainted"  # what it issued is being renewed early
    REVOKED = "revoked"  # nobody believes it any more


BELIEVED = (
    AuthorityState.ACTIVE,
    AuthorityState.PREPARED,
    AuthorityState.RETIRED,
    AuthorityState.TAINTED,
)


@dataclass(frozen=True)
class AuthorityRecord:
    """One intermediate authority; `sequence` orders them.

    Attributes:
        id: subject key identifier, lower-case hexadecimal.
        handle: opens its private key in the vault.
        csr: request for the root, DER.
        certificate: DER; None until the root has signed.
    """

    id: str
    state: AuthorityState
    handle: bytes
    csr: bytes
    create_time: datetime
    certificate: bytes | None = None
    install_time: datetime | None = None
    not_after: datetime | None = None
    sequence: int = 0


class AuthorityStore:
    """Authorities within one transaction; `trail` records what becomes of them."""

    def __init__(self, connection: Connection, trail: Recorder) -> None:
        self._connection = connection
        self.trail = trail

    def add(self, authority: AuthorityRecord) -> None:
        """Add an authority; its `sequence` is given by the database."""
        self._connection.execute(insert(AUTHORITIES).values(_values(authority)))

    def update(self, authority: AuthorityRecord) -> None:
        """Write what became of an authority."""
        self._connection.execute(
            update(AUTHORITIES).where(AUTHORITIES.c.id == authority.id).values(_values(authority))
        )

    def get(self, identifier: str) -> AuthorityRecord | None:
        """Read one authority."""
        query = select(AUTHORITIES).where(AUTHORITIES.c.id == identifier)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _authority(row)

    def in_states(self, states: Collection[AuthorityState]) -> Sequence[AuthorityRecord]:
        """All authorities in some states, oldest first."""
        query = (
            select(AUTHORITIES)
            .where(AUTHORITIES.c.state.in_([state.value for state in states]))
            .order_by(AUTHORITIES.c.sequence)
        )
        return [_authority(row) for row in self._connection.execute(query).mappings()]

    def page(self, before: int | None, limit: int) -> Sequence[AuthorityRecord]:
        """At most `limit` authorities, newest first, made before sequence number `before`."""
        query = select(AUTHORITIES).order_by(AUTHORITIES.c.sequence.desc()).limit(limit)
        if before is not None:
            query = query.where(AUTHORITIES.c.sequence < before)
        return [_authority(row) for row in self._connection.execute(query).mappings()]

    def dependents(self, issuer: str, now: datetime, settled: datetime) -> int:
        """Number of certificates of an authority, and of keys under it, that are still needed.

        Keys are those that are enabled and endorsed under it. Certificates are those that are
        valid, not revoked, and have no successor (same member, same purpose, another issuer) that
        is valid since `settled` or longer.
        """
        needed = _needed(issuer, now, settled)
        query = select(func.count()).select_from(CERTIFICATES).where(needed)
        return self._connection.execute(query).scalar_one() + len(self._needing_keys(issuer))

    def dependent_members(
        self, issuer: str, now: datetime, settled: datetime, limit: int
    ) -> Sequence[str]:
        """At most `limit` names of the keys, and of whose certificates, `dependents` counts."""
        query = (
            select(CERTIFICATES.c.member)
            .where(_needed(issuer, now, settled))
            .distinct()
            .order_by(CERTIFICATES.c.member)
            .limit(limit)
        )
        members = self._connection.execute(query).scalars()
        return [*self._needing_keys(issuer), *members][:limit]

    def _needing_keys(self, issuer: str) -> Sequence[str]:
        """Names of the enabled encryption keys that are endorsed under certificates of it."""
        query = (
            select(ENDORSEMENTS.c.key_name)
            .join(CERTIFICATES, CERTIFICATES.c.der == ENDORSEMENTS.c.certificate)
            .join(ENCRYPTION_KEYS, ENCRYPTION_KEYS.c.name == ENDORSEMENTS.c.key_name)
            .where(
                CERTIFICATES.c.issuer == issuer,
                ENCRYPTION_KEYS.c.state == KeyState.ENABLED.value,
            )
            .distinct()
            .order_by(ENDORSEMENTS.c.key_name)
        )
        return list(self._connection.execute(query).scalars())

    def revoke_certificates_of(self, issuer: str, time: datetime, reason: str) -> None:
        """Mark all certificates of an authority as revoked that are not yet."""
        self._connection.execute(
            update(CERTIFICATES)
            .where(CERTIFICATES.c.issuer == issuer, CERTIFICATES.c.revoke_time.is_(None))
            .values(revoke_time=time, revoke_reason=reason)
        )


def _needed(issuer: str, now: datetime, settled: datetime) -> ColumnElement[bool]:
    newer = CERTIFICATES.alias("newer")
    successor = select(newer.c.serial).where(
        newer.c.member == CERTIFICATES.c.member,
        newer.c.purpose == CERTIFICATES.c.purpose,
        newer.c.issuer != issuer,
        newer.c.sequence > CERTIFICATES.c.sequence,
        newer.c.not_before <= settled,
    )
    return and_(
        CERTIFICATES.c.issuer == issuer,
        CERTIFICATES.c.not_after > now,
        CERTIFICATES.c.revoke_time.is_(None),
        ~successor.exists(),
    )


def _values(authority: AuthorityRecord) -> dict[str, Any]:
    values = {**asdict(authority), "state": authority.state.value}
    del values["sequence"]  # the database's to give
    return values


def _authority(row: Mapping[Any, Any]) -> AuthorityRecord:
    return AuthorityRecord(**{**row, "state": AuthorityState(row["state"])})
