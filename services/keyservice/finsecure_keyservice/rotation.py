"""Replacing the intermediate authority while calls go on: prepare, activate, taint, revoke.

Believing comes before issuing, and issuing by another comes before disbelieving, so at no instant
does anybody hold a certificate that somebody else does not know how to verify:

- *prepare*: the next authority's key is made, its request is signed by the root elsewhere, and its
  certificate goes out with the next revocation list. Whoever is still let in has a list that is
  younger than `revocation_list_lifetime`, so after that time everybody believes it;
- *activate*: it issues from now on. The former one is believed on, and can be activated again;
- *taint*: whoever has a certificate of the former one renews it at once;
- *revoke*: when nobody needs the former one any more, belief in it ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto.certificates import TrustAnchors
from finsecure_crypto.errors import (
    AuthenticationError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StateError,
)
from finsecure_crypto.intermediate import BACKDATE

from finsecure_keyservice.authorities import Authorities
from finsecure_keyservice.authority_store import (
    BELIEVED,
    AuthorityRecord,
    AuthorityState,
    AuthorityStore,
)

MOST_BELIEVED = 8
"""Authorities that are believed at once."""

_LONGEST_SETTLING = timedelta(minutes=10)
_MOST_NAMED = 5


@dataclass(frozen=True)
class Rotation:
    """The four steps.

    Attributes:
        authorities: the authorities and their keys.
        propagation: how long it takes until everybody who is let in knows the authorities.
    """

    authorities: Authorities
    propagation: timedelta

    def prepare(self, store: AuthorityStore, now: datetime) -> AuthorityRecord:
        """Make the next authority's key and request, or find those that wait.

        Raises:
            StateError: AUTHORITY_PREPARED if the next one is certified already.
            ResourceExhaustedError: TOO_MANY_AUTHORITIES.
        """
        for waiting in store.in_states([AuthorityState.REQUESTED]):
            _record(store, "await", waiting)
            return waiting
        believed = store.in_states(BELIEVED)
        for prepared in believed:
            if prepared.state is AuthorityState.PREPARED:
                raise StateError(
                    "AUTHORITY_PREPARED",
                    f"authorities/{prepared.id} is prepared already: activate it, or revoke it",
                )
        if len(believed) >= MOST_BELIEVED:
            raise ResourceExhaustedError(
                "TOO_MANY_AUTHORITIES", "too many authorities are believed: taint and revoke some"
            )
        record = self.authorities.request(store, now)
        _record(store, "request", record)
        return record

    def install(
        self, store: AuthorityStore, identifier: str, certificate: bytes, now: datetime
    ) -> AuthorityRecord:
        """Bring the certificate that the root has made of a request.

        Raises:
            NotFoundError: AUTHORITY_NOT_FOUND.
            StateError: AUTHORITY_STATE.
            InvalidArgumentError: AUTHORITY_REJECTED if it is not the root's, not of the requested
                key, or not in date.
        """
        record = self._get(store, identifier, AuthorityState.REQUESTED)
        root = self.authorities.root.public_bytes(Encoding.DER)
        try:
            anchors = TrustAnchors((root,), (certificate,))
        except AuthenticationError as error:
            raise _rejected(str(error)) from error
        parsed = x509.load_der_x509_certificate(certificate)
        if anchors.key_ids != {bytes.fromhex(identifier)}:
            raise _rejected("it certifies another key than the request's")
        if not parsed.not_valid_before_utc <= now < parsed.not_valid_after_utc:
            raise _rejected("it is not in date; compare the clocks of both machines")
        installed = replace(
            record,
            state=AuthorityState.PREPARED,
            certificate=certificate,
            install_time=now,
            not_after=parsed.not_valid_after_utc,
        )
        store.update(installed)
        _record(store, "install", installed)
        return installed

    def activate(
        self, store: AuthorityStore, identifier: str, now: datetime, *, force: bool
    ) -> AuthorityRecord:
        """Let an authority issue in place of the present one.

        Raises:
            NotFoundError: AUTHORITY_NOT_FOUND.
            StateError: AUTHORITY_STATE, AUTHORITY_EXPIRED, or AUTHORITY_NOT_PROPAGATED if it is too
                early and not forced.
        """
        record = self._get(store, identifier, AuthorityState.PREPARED, AuthorityState.RETIRED)
        if record.not_after is None or now >= record.not_after:
            raise StateError(
                "AUTHORITY_EXPIRED", f"authorities/{identifier} has expired: prepare another one"
            )
        propagated = self.propagated(record)
        if not force and (propagated is None or now < propagated):
            raise StateError(
                "AUTHORITY_NOT_PROPAGATED",
                f"not everybody knows authorities/{identifier} yet: try again after {propagated}",
            )
        for present in store.in_states([AuthorityState.ACTIVE]):
            store.update(replace(present, state=AuthorityState.RETIRED))
        activated = replace(record, state=AuthorityState.ACTIVE)
        store.update(activated)
        _record(store, "activate", activated)
        return activated

    def taint(self, store: AuthorityStore, identifier: str, reason: str) -> AuthorityRecord:
        """Make whoever has a certificate of a former authority renew it at once.

        Raises:
            NotFoundError: AUTHORITY_NOT_FOUND.
            StateError: AUTHORITY_STATE; the active one is replaced first.
        """
        record = self._get(store, identifier, AuthorityState.RETIRED)
        tainted = replace(record, state=AuthorityState.TAINTED)
        store.update(tainted)
        _record(store, "taint", tainted, reason)
        return tainted

    def revoke(
        self, store: AuthorityStore, identifier: str, reason: str, now: datetime, *, force: bool
    ) -> AuthorityRecord:
        """End belief in a tainted authority, or abandon one that never issued.

        Raises:
            NotFoundError: AUTHORITY_NOT_FOUND.
            StateError: AUTHORITY_STATE, or AUTHORITY_NEEDED if members depend on it and it is not
                forced.
        """
        record = self._get(
            store,
            identifier,
            AuthorityState.TAINTED,
            AuthorityState.PREPARED,
            AuthorityState.REQUESTED,
        )
        needed = self.dependents(store, record, now)
        if needed and not force:
            raise StateError(
                "AUTHORITY_NEEDED",
                f"{needed} certificates of authorities/{identifier} have no settled successor yet, "
                f"such as those of {', '.join(self._needy(store, record, now))}: wait until their "
                "owners have renewed them, let trustees endorse keys anew (`finsecure ceremony "
                "endorse`), or force it and let them enrol again",
            )
        revoked = replace(record, state=AuthorityState.REVOKED)
        store.update(revoked)
        store.revoke_certificates_of(identifier, now, f"authority revoked: {reason}"[:500])
        _record(store, "revoke", revoked, reason)
        return revoked

    def dependents(self, store: AuthorityStore, record: AuthorityRecord, now: datetime) -> int:
        """Number of certificates of an authority that somebody still needs.

        A successor counts a while after it was issued: its answer may have been lost on the way.
        """
        return store.dependents(record.id, now, self._settled(now))

    def _needy(
        self, store: AuthorityStore, record: AuthorityRecord, now: datetime
    ) -> Sequence[str]:
        return store.dependent_members(record.id, now, self._settled(now), _MOST_NAMED)

    def _settled(self, now: datetime) -> datetime:
        """Start of the youngest certificates that count as successors."""
        return now - min(self.propagation, _LONGEST_SETTLING) - BACKDATE

    def propagated(self, record: AuthorityRecord) -> datetime | None:
        """When everybody who is still let in knows an authority; None if it is not certified."""
        return None if record.install_time is None else record.install_time + self.propagation

    def _get(
        self, store: AuthorityStore, identifier: str, *states: AuthorityState
    ) -> AuthorityRecord:
        record = store.get(identifier)
        if record is None:
            raise NotFoundError(
                "AUTHORITY_NOT_FOUND",
                f"there is no authorities/{identifier}; list the authorities for those there are",
            )
        if record.state not in states:
            raise StateError(
                "AUTHORITY_STATE",
                f"authorities/{identifier} is {record.state.value}; this step is for those that "
                f"are {' or '.join(state.value for state in states)}",
            )
        return record


def _record(store: AuthorityStore, what: str, authority: AuthorityRecord, reason: str = "") -> None:
    store.trail.record(
        f"authority.{what}",
        f"authorities/{authority.id}",
        state=authority.state.value,
        sealed={"reason": reason} if reason else None,
    )


def _rejected(why: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        "AUTHORITY_REJECTED", f"this is not the certificate that was asked for: {why}"
    )
