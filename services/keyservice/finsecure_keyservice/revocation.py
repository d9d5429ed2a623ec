"""Revoking certificates, and the signed list that tells everybody.

A revocation and the list that announces it are written in one transaction: whoever reads the
store after a crash finds both or neither.
"""

from datetime import datetime, timedelta

from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto.errors import NotFoundError, StateError

from finsecure_keyservice.authority import Authority, Revoked
from finsecure_keyservice.records import CertificateRecord, RevocationListRecord
from finsecure_keyservice.store import Store

_KEPT_AFTER_EXPIRY = timedelta(hours=1)
"""A receiver whose clock is slow still sees a revoked certificate as valid for a while."""


def revoke_certificate(store: Store, serial: str, reason: str, now: datetime) -> CertificateRecord:
    """Revoke one certificate.

    Raises:
        NotFoundError: CERTIFICATE_NOT_FOUND.
        StateError: CERTIFICATE_REVOKED if it is already; the first reason stays on record.
    """
    certificate = store.certificate(serial)
    if certificate is None:
        raise NotFoundError(
            "CERTIFICATE_NOT_FOUND",
            f"there is no certificates/{serial}; list the certificates for those there are",
        )
    if certificate.revoke_time is not None:
        raise StateError("CERTIFICATE_REVOKED", f"certificates/{serial} is revoked already")
    store.revoke_certificate(serial, now, reason)
    store.trail.record(
        "certificate.revoke",
        f"certificates/{serial}",
        sealed={"reason": reason},
        member=certificate.member,
    )
    revoked = store.certificate(serial)
    assert revoked is not None  # noqa: S101  # the same transaction found it above
    return revoked


def rebuild_list(
    store: Store, authority: Authority, now: datetime, lifetime: timedelta, lowest: int = 1
) -> RevocationListRecord:
    """Sign a new revocation list over what the store says and put it in place of the old one.

    Args:
        store: the transaction.
        authority: who signs.
        now: the time.
        lifetime: how long the list may be relied on.
        lowest: the least number that it may have; it is above the old one's in any case.
    """
    newest = store.revocation_list()
    number = max(lowest, 1 if newest is None else newest.number + 1)
    revoked = [
        Revoked(int(certificate.serial, 16), certificate.revoke_time)
        for certificate in store.revoked(expiring_after=now - _KEPT_AFTER_EXPIRY)
        if certificate.revoke_time is not None
    ]
    revoked += [
        Revoked(int(certificate.serial, 16), now, hold=True)
        for certificate in store.held(expiring_after=now - _KEPT_AFTER_EXPIRY)
    ]
    signed = authority.revocation_list(revoked, number, now, lifetime)
    record = RevocationListRecord(number, signed.public_bytes(Encoding.DER), now + lifetime)
    store.replace_revocation_list(record)
    store.trail.record(
        "revocation-list.sign", "revocationList", number=number, entries=len(revoked)
    )
    return record
