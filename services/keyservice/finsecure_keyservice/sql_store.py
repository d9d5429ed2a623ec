"""The store on a SQL database: one instance per transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from finsecure_crypto.certificates import Purpose, Role
from finsecure_crypto.minimum_cohorts import MinimumCohorts
from sqlalchemy import Connection, delete, func, insert, select, update

from finsecure_keyservice.approval_store import ApprovalStore
from finsecure_keyservice.audit.trail import Recorder
from finsecure_keyservice.authority_store import AuthorityStore
from finsecure_keyservice.encryption_key_store import EncryptionKeyStore
from finsecure_keyservice.join_token_store import JoinTokenStore
from finsecure_keyservice.records import (
    ApiKeyRecord,
    CertificateRecord,
    FederationRecord,
    MemberRecord,
    MemberState,
    RevocationListRecord,
    Spending,
)
from finsecure_keyservice.schema import (
    API_KEYS,
    CERTIFICATES,
    FEDERATIONS,
    MEMBERS,
    REVOCATION_LISTS,
)


class SqlStore:
    """`Store` over an open transaction of SQLAlchemy and its audit trail."""

    def __init__(self, connection: Connection, trail: Recorder) -> None:
        self._connection = connection
        self._trail = trail
        self._approvals = ApprovalStore(connection, trail)
        self._encryption_keys = EncryptionKeyStore(connection, trail)
        self._authorities = AuthorityStore(connection, trail)
        self._join_tokens = JoinTokenStore(connection, trail)

    @property
    def trail(self) -> Recorder:
        """See `Store`."""
        return self._trail

    @property
    def approvals(self) -> ApprovalStore:
        """See `Store`."""
        return self._approvals

    @property
    def encryption_keys(self) -> EncryptionKeyStore:
        """See `Store`."""
        return self._encryption_keys

    @property
    def authorities(self) -> AuthorityStore:
        """See `Store`."""
        return self._authorities

    @property
    def join_tokens(self) -> JoinTokenStore:
        """See `Store`."""
        return self._join_tokens

    def add_federation(self, federation: FederationRecord) -> None:
        """See `Store`."""
        self._connection.execute(insert(FEDERATIONS).values(_federation_row(federation)))

    def update_federation(self, federation: FederationRecord) -> None:
        """See `Store`."""
        self._connection.execute(
            update(FEDERATIONS)
            .where(FEDERATIONS.c.name == federation.name)
            .values(_federation_row(federation))
        )

    def federation(self, name: str) -> FederationRecord | None:
        """See `Store`."""
        query = select(FEDERATIONS).where(FEDERATIONS.c.name == name)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _federation(row)

    def federations(self, after: str, limit: int) -> Sequence[FederationRecord]:
        """See `Store`."""
        query = (
            select(FEDERATIONS)
            .where(FEDERATIONS.c.name > after)
            .order_by(FEDERATIONS.c.name)
            .limit(limit)
        )
        return [_federation(row) for row in self._connection.execute(query).mappings()]

    def add_member(self, member: MemberRecord) -> None:
        """See `Store`."""
        self._connection.execute(
            insert(MEMBERS).values(
                name=member.name,
                parent=member.parent,
                role=member.role.value,
                display_name=member.display_name,
                state=member.state.value,
                create_time=member.create_time,
                revoke_time=member.revoke_time,
                revoke_reason=member.revoke_reason,
            )
        )

    def member(self, name: str) -> MemberRecord | None:
        """See `Store`."""
        query = select(MEMBERS).where(MEMBERS.c.name == name)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _member(row)

    def members(self, parent: str, after: str, limit: int) -> Sequence[MemberRecord]:
        """See `Store`."""
        query = (
            select(MEMBERS)
            .where(MEMBERS.c.parent == parent, MEMBERS.c.name > after)
            .order_by(MEMBERS.c.name)
            .limit(limit)
        )
        return [_member(row) for row in self._connection.execute(query).mappings()]

    def activate_member(self, name: str) -> None:
        """See `Store`."""
        self._connection.execute(
            update(MEMBERS)
            .where(MEMBERS.c.name == name, MEMBERS.c.state == MemberState.INVITED.value)
            .values(state=MemberState.ACTIVE.value)
        )

    def revoke_member(self, name: str, time: datetime, reason: str) -> None:
        """See `Store`."""
        self._connection.execute(
            update(MEMBERS)
            .where(MEMBERS.c.name == name)
            .values(state=MemberState.REVOKED.value, revoke_time=time, revoke_reason=reason)
        )

    def set_member_state(self, name: str, state: MemberState) -> None:
        """See `Store`."""
        self._connection.execute(
            update(MEMBERS).where(MEMBERS.c.name == name).values(state=state.value)
        )

    def count_operators(self, state: MemberState) -> int:
        """See `Store`."""
        query = select(func.count()).where(
            MEMBERS.c.role == Role.OPERATOR.value, MEMBERS.c.state == state.value
        )
        return self._connection.execute(query).scalar_one()

    def add_api_key(self, key: ApiKeyRecord) -> None:
        """See `Store`."""
        self._connection.execute(
            insert(API_KEYS).values(
                id=key.id,
                member=key.member,
                digest=key.digest,
                create_time=key.create_time,
                expire_time=key.expire_time,
                void=key.void,
                repeated=False,
            )
        )

    def api_key(self, key_id: str) -> ApiKeyRecord | None:
        """See `Store`."""
        query = select(API_KEYS).where(API_KEYS.c.id == key_id)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _api_key(row)

    def spend_api_key(self, key_id: str, spending: Spending) -> None:
        """See `Store`."""
        self._connection.execute(
            update(API_KEYS)
            .where(API_KEYS.c.id == key_id)
            .values(
                spend_time=spending.time,
                requests_digest=spending.requests_digest,
                tls_serial=spending.tls_serial,
                signing_serial=spending.signing_serial,
            )
        )

    def note_repetition(self, key_id: str) -> bool:
        """See `Store`."""
        first = (API_KEYS.c.id == key_id, API_KEYS.c.repeated.is_(False))
        noted = self._connection.execute(update(API_KEYS).where(*first).values(repeated=True))
        return noted.rowcount > 0

    def void_api_keys(self, member: str) -> None:
        """See `Store`."""
        self._connection.execute(
            update(API_KEYS)
            .where(API_KEYS.c.member == member, API_KEYS.c.spend_time.is_(None))
            .values(void=True)
        )

    def void_all_api_keys(self) -> int:
        """See `Store`."""
        voided = self._connection.execute(
            update(API_KEYS)
            .where(API_KEYS.c.spend_time.is_(None), API_KEYS.c.void.is_(False))
            .values(void=True)
        )
        return voided.rowcount

    def add_certificate(self, certificate: CertificateRecord) -> None:
        """See `Store`."""
        self._connection.execute(
            insert(CERTIFICATES).values(
                serial=certificate.serial,
                member=certificate.member,
                purpose=certificate.purpose.value,
                der=certificate.der,
                key_digest=certificate.key_digest,
                issuer=certificate.issuer,
                not_before=certificate.not_before,
                not_after=certificate.not_after,
                revoke_time=certificate.revoke_time,
                revoke_reason=certificate.revoke_reason,
            )
        )

    def certificate(self, serial: str) -> CertificateRecord | None:
        """See `Store`."""
        query = select(CERTIFICATES).where(CERTIFICATES.c.serial == serial)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _certificate(row)

    def certificates(
        self, member: str, before: int | None, limit: int
    ) -> Sequence[CertificateRecord]:
        """See `Store`."""
        query = select(CERTIFICATES).order_by(CERTIFICATES.c.sequence.desc()).limit(limit)
        if member:
            query = query.where(CERTIFICATES.c.member == member)
        if before is not None:
            query = query.where(CERTIFICATES.c.sequence < before)
        return [_certificate(row) for row in self._connection.execute(query).mappings()]

    def certificates_of_key(self, key_digest: bytes) -> Sequence[CertificateRecord]:
        """See `Store`."""
        query = select(CERTIFICATES).where(CERTIFICATES.c.key_digest == key_digest)
        return [_certificate(row) for row in self._connection.execute(query).mappings()]

    def revoke_certificate(self, serial: str, time: datetime, reason: str) -> None:
        """See `Store`."""
        self._connection.execute(
            update(CERTIFICATES)
            .where(CERTIFICATES.c.serial == serial, CERTIFICATES.c.revoke_time.is_(None))
            .values(revoke_time=time, revoke_reason=reason)
        )

    def revoke_certificates_of(self, member: str, time: datetime, reason: str) -> None:
        """See `Store`."""
        self._connection.execute(
            update(CERTIFICATES)
            .where(CERTIFICATES.c.member == member, CERTIFICATES.c.revoke_time.is_(None))
            .values(revoke_time=time, revoke_reason=reason)
        )

    def revoked(self, expiring_after: datetime) -> Sequence[CertificateRecord]:
        """See `Store`."""
        query = (
            select(CERTIFICATES)
            .where(
                CERTIFICATES.c.revoke_time.is_not(None),
                CERTIFICATES.c.not_after > expiring_after,
            )
            .order_by(CERTIFICATES.c.sequence)
        )
        return [_certificate(row) for row in self._connection.execute(query).mappings()]

    def held(self, expiring_after: datetime) -> Sequence[CertificateRecord]:
        """See `Store`."""
        suspended = select(MEMBERS.c.name).where(MEMBERS.c.state == MemberState.SUSPENDED.value)
        query = (
            select(CERTIFICATES)
            .where(
                CERTIFICATES.c.member.in_(suspended),
                CERTIFICATES.c.revoke_time.is_(None),
                CERTIFICATES.c.not_after > expiring_after,
            )
            .order_by(CERTIFICATES.c.sequence)
        )
        return [_certificate(row) for row in self._connection.execute(query).mappings()]

    def revocation_list(self) -> RevocationListRecord | None:
        """See `Store`."""
        query = select(REVOCATION_LISTS).order_by(REVOCATION_LISTS.c.number.desc()).limit(1)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else RevocationListRecord(**row)

    def replace_revocation_list(self, newest: RevocationListRecord) -> None:
        """See `Store`."""
        self._connection.execute(delete(REVOCATION_LISTS))
        self._connection.execute(
            insert(REVOCATION_LISTS).values(
                number=newest.number, der=newest.der, next_update=newest.next_update
            )
        )


def _federation_row(record: FederationRecord) -> dict[str, object]:
    return {
        "name": record.name,
        "display_name": record.display_name,
        "create_time": record.create_time,
        "minimum_cohort": record.minima.rounds,
        "minimum_sum_cohort": record.minima.sums,
        "revision": record.minima.revision,
    }


# Rows come as `Mapping[Any, Any]`: SQLAlchemy Core does not type columns.
def _federation(row: Mapping[Any, Any]) -> FederationRecord:
    minima = MinimumCohorts(
        row["name"], row["revision"], row["minimum_cohort"], row["minimum_sum_cohort"]
    )
    return FederationRecord(row["name"], row["display_name"], row["create_time"], minima)


def _member(row: Mapping[Any, Any]) -> MemberRecord:
    return MemberRecord(**{**row, "role": Role(row["role"]), "state": MemberState(row["state"])})


def _certificate(row: Mapping[Any, Any]) -> CertificateRecord:
    return CertificateRecord(**{**row, "purpose": Purpose(row["purpose"])})


def _api_key(row: Mapping[Any, Any]) -> ApiKeyRecord:
    spending = None
    if row["spend_time"] is not None:
        spending = Spending(
            row["spend_time"], row["requests_digest"], row["tls_serial"], row["signing_serial"]
        )
    return ApiKeyRecord(
        id=row["id"],
        member=row["member"],
        digest=row["digest"],
        create_time=row["create_time"],
        expire_time=row["expire_time"],
        void=row["void"],
        spending=spending,
    )
