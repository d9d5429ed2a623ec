"""The store as the logic sees it: one transaction, typed records, no SQL.

Every method runs inside a transaction that its caller holds; an exception anywhere rolls all of
it back. `sql_store.py` keeps it in a database.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

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


class Store(Protocol):
    """Records of one key service within one transaction."""

    @property
    def approvals(self) -> ApprovalStore:
        """Proposals of acts that need two persons."""

    @property
    def encryption_keys(self) -> EncryptionKeyStore:
        """Public homomorphic keys."""

    @property
    def authorities(self) -> AuthorityStore:
        """Intermediate authorities."""

    @property
    def join_tokens(self) -> JoinTokenStore:
        """Join tokens, and who came in by them."""

    @property
    def trail(self) -> Recorder:
        """Where whoever decides something with this store records it."""

    def add_federation(self, federation: FederationRecord) -> None:
        """Add a federation whose name is free."""

    def update_federation(self, federation: FederationRecord) -> None:
        """Put a newer record of a federation in the place of the old one."""

    def federation(self, name: str) -> FederationRecord | None:
        """Read one federation."""

    def federations(self, after: str, limit: int) -> Sequence[FederationRecord]:
        """At most `limit` federations in the order of their names, from behind `after`."""

    def add_member(self, member: MemberRecord) -> None:
        """Add a member whose name is free and whose federation exists."""

    def member(self, name: str) -> MemberRecord | None:
        """Read one member."""

    def members(self, parent: str, after: str, limit: int) -> Sequence[MemberRecord]:
        """At most `limit` members of a parent in the order of their names, from behind `after`."""

    def activate_member(self, name: str) -> None:
        """An invited member has enrolled."""

    def revoke_member(self, name: str, time: datetime, reason: str) -> None:
        """End a membership; its certificates and keys are the caller's to end too."""

    def set_member_state(self, name: str, state: MemberState) -> None:
        """Suspend a member, or end its suspension."""

    def count_operators(self, state: MemberState) -> int:
        """Number of operators in a state."""

    def add_api_key(self, key: ApiKeyRecord) -> None:
        """Add an unspent key."""

    def api_key(self, key_id: str) -> ApiKeyRecord | None:
        """Read one key."""

    def spend_api_key(self, key_id: str, spending: Spending) -> None:
        """Mark an unspent key as spent."""

    def note_repetition(self, key_id: str) -> bool:
        """Note that a spent key came again as before; returns whether it is the first time."""

    def void_api_keys(self, member: str) -> None:
        """Make every unspent key of a member worthless."""

    def void_all_api_keys(self) -> int:
        """Make every unspent key worthless; returns how many were worth something."""

    def add_certificate(self, certificate: CertificateRecord) -> None:
        """Add an issued certificate; its `sequence` is given by the store."""

    def certificate(self, serial: str) -> CertificateRecord | None:
        """Read one certificate."""

    def certificates(
        self, member: str, before: int | None, limit: int
    ) -> Sequence[CertificateRecord]:
        """At most `limit` certificates, newest first, issued before sequence number `before`.

        An empty `member` means everybody's.
        """

    def certificates_of_key(self, key_digest: bytes) -> Sequence[CertificateRecord]:
        """Every certificate that was ever issued to a public key."""

    def revoke_certificate(self, serial: str, time: datetime, reason: str) -> None:
        """Mark one certificate as revoked, unless it is already."""

    def revoke_certificates_of(self, member: str, time: datetime, reason: str) -> None:
        """Mark all certificates of a member as revoked that are not yet."""

    def revoked(self, expiring_after: datetime) -> Sequence[CertificateRecord]:
        """Revoked certificates that expire after an instant."""

    def held(self, expiring_after: datetime) -> Sequence[CertificateRecord]:
        """Certificates of suspended members that are not revoked and expire after an instant."""

    def revocation_list(self) -> RevocationListRecord | None:
        """The newest revocation list."""

    def replace_revocation_list(self, newest: RevocationListRecord) -> None:
        """Put a newer revocation list in the place of the old one."""
