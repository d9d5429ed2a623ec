"""Turning an API key into certificates, and certificates into fresh ones.

Everything happens inside one store transaction, so a crash at any instant leaves either nothing
done or everything done; after the latter, the same call gets the same answer again.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from finsecure_crypto.certificates import Purpose, SpiffeId, check_request
from finsecure_crypto.errors import AuthenticationError, InvalidArgumentError, PermissionDeniedError
from finsecure_crypto.transcript import digest

from finsecure_keyservice.admission_keys import ApiKey, Pepper
from finsecure_keyservice.authority import Authority, PublicKey
from finsecure_keyservice.authority_store import AuthorityStore
from finsecure_keyservice.members import get_member, require_member_in_good_standing
from finsecure_keyservice.names import MemberName
from finsecure_keyservice.records import (
    ApiKeyRecord,
    CertificateRecord,
    MemberRecord,
    Spending,
)
from finsecure_keyservice.store import Store


@dataclass(frozen=True)
class Requests:
    """Two PKCS#10 requests (RFC 2986), DER: one key for TLS, one for signing."""

    tls: bytes
    signing: bytes

    def digest(self) -> bytes:
        """What a spent API key remembers of them (SHA-256)."""
        return digest("enrolment-requests", self.tls, self.signing)


@dataclass(frozen=True)
class Issued:
    """A member and the two certificates it was given."""

    member: MemberRecord
    tls: CertificateRecord
    signing: CertificateRecord


class Issuers(Protocol):
    """Whoever knows which authority issues."""

    def active(self, store: AuthorityStore) -> Authority:
        """The authority that issues now."""


@dataclass(frozen=True)
class Enrolment:
    """Issues certificates to members of one domain."""

    domain: str
    authorities: Issuers
    pepper: Pepper
    lifetime: timedelta

    def enrol(self, store: Store, api_key: str, requests: Requests, now: datetime) -> Issued:
        """Spend an API key.

        The key is checked before anything else of the request is looked at.

        Raises:
            AuthenticationError: API_KEY_MALFORMED, API_KEY_REJECTED (unknown, wrong or void),
                API_KEY_EXPIRED, API_KEY_SPENT (on other requests).
            StateError: MEMBER_REVOKED, AUTHORITY_EXPIRED.
            InvalidArgumentError: what `check_request` raises; KEY_TAKEN.
        """
        key = ApiKey.parse(api_key)
        record = store.api_key(key.id)
        if (
            not key.matches(self.pepper(), record.digest if record else None)
            or record is None
            or record.void
        ):
            raise AuthenticationError(
                "API_KEY_REJECTED", "this API key is not valid; ask your operator for a new one"
            )
        member = get_member(store, record.member)
        require_member_in_good_standing(member)
        if record.spending is not None:
            return _repeat(store, record, record.spending, member, requests)
        if now >= record.expire_time:
            raise AuthenticationError(
                "API_KEY_EXPIRED",
                "this API key was not used in time; ask your operator for a new one",
            )
        tls, signing = self.certify(store, self._identity(member), member.name, requests, now)
        spending = Spending(now, requests.digest(), tls.serial, signing.serial)
        store.spend_api_key(record.id, spending)
        store.activate_member(member.name)
        store.trail.record("member.enrol", member.name, key=record.id)
        return Issued(get_member(store, member.name), tls, signing)

    def renew(
        self, store: Store, caller: SpiffeId, serial: str, requests: Requests, now: datetime
    ) -> Issued:
        """Issue fresh certificates to the caller's own identity.

        The store is asked again whether the caller's certificate still stands, because it knows
        of a revocation before any revocation list does.

        Raises:
            PermissionDeniedError: NOT_A_MEMBER.
            AuthenticationError: CERTIFICATE_REVOKED.
            StateError: MEMBER_REVOKED, AUTHORITY_EXPIRED.
            InvalidArgumentError: what `check_request` raises; KEY_TAKEN.
        """
        certificate = store.certificate(serial)
        member = store.member(certificate.member) if certificate else None
        if certificate is None or member is None or self._identity(member) != caller:
            raise PermissionDeniedError(
                "NOT_A_MEMBER", "this certificate is not in the books; enrol with an API key"
            )
        require_member_in_good_standing(member)
        if certificate.revoke_time is not None:
            raise AuthenticationError(
                "CERTIFICATE_REVOKED", "this certificate was revoked; enrol with a new API key"
            )
        tls, signing = self.certify(store, caller, member.name, requests, now)
        return Issued(member, tls, signing)

    def _identity(self, member: MemberRecord) -> SpiffeId:
        return MemberName.parse(member.name).spiffe_id(self.domain)

    def certify(
        self, store: Store, identity: SpiffeId, holder: str, requests: Requests, now: datetime
    ) -> tuple[CertificateRecord, CertificateRecord]:
        """Issue both certificates of an identity; whether it deserves them is decided before.

        Args:
            store: the transaction.
            identity: what the certificates say.
            holder: resource name that they are booked under.
            requests: what to certify.
            now: the time.

        Raises:
            InvalidArgumentError: what `check_request` raises; KEY_TAKEN.
            StateError: AUTHORITY_EXPIRED.
        """
        # Both requests are checked before either certificate is made.
        keys = [
            (Purpose.TLS, check_request(requests.tls, Purpose.TLS)),
            (Purpose.SIGNING, check_request(requests.signing, Purpose.SIGNING)),
        ]
        tls, signing = (
            self._issue(store, identity, holder, purpose, key, now) for purpose, key in keys
        )
        return tls, signing

    def _issue(
        self,
        store: Store,
        identity: SpiffeId,
        holder: str,
        purpose: Purpose,
        public_key: PublicKey,
        now: datetime,
    ) -> CertificateRecord:
        spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        key_digest = hashlib.sha256(spki).digest()
        for earlier in store.certificates_of_key(key_digest):
            # Somebody else's key, or one that is suspect, stays out.
            if earlier.member != holder or earlier.revoke_time is not None:
                raise InvalidArgumentError(
                    "KEY_TAKEN", "this public key cannot be certified; generate a new key pair"
                )
        authority = self.authorities.active(store.authorities)
        certificate = authority.issue(identity, purpose, public_key, now, self.lifetime)
        record = CertificateRecord(
            serial=f"{certificate.serial_number:x}",
            member=holder,
            purpose=purpose,
            der=certificate.public_bytes(Encoding.DER),
            key_digest=key_digest,
            issuer=authority.id,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )
        store.add_certificate(record)
        store.trail.record(
            "certificate.issue",
            f"certificates/{record.serial}",
            member=holder,
            purpose=purpose.value,
            key_sha256=key_digest.hex(),
        )
        return record


def _repeat(
    store: Store,
    key: ApiKeyRecord,
    spending: Spending,
    member: MemberRecord,
    requests: Requests,
) -> Issued:
    if requests.digest() != spending.requests_digest:
        raise AuthenticationError(
            "API_KEY_SPENT",
            "this API key was used already; if it was not by you, tell your operator at once, "
            "and ask for a new one",
        )
    tls, signing = certificates_of(store, spending)
    if store.note_repetition(key.id):
        store.trail.record("member.enrol-again", member.name, key=key.id)
    else:
        store.trail.nothing_new()
    return Issued(member, tls, signing)


def certificates_of(
    store: Store, spending: Spending
) -> tuple[CertificateRecord, CertificateRecord]:
    """Read the certificates that something was spent on, for TLS and for signing."""
    tls, signing = (
        store.certificate(spending.tls_serial),
        store.certificate(spending.signing_serial),
    )
    if tls is None or signing is None:
        raise AssertionError(f"the certificates {spending.tls_serial} and its pair are missing")
    return tls, signing
