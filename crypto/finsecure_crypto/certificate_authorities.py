"""Whom the federation believes: pinned roots, intermediates, and their revocation lists.

Sources: RFC 5280, sections 5 (lists) and 6 (paths; here always leaf ← intermediate ← root).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from finsecure_crypto.certificate_profile import MAXIMUM_DER, authority_domain, check_critical
from finsecure_crypto.errors import AuthenticationError, FinSecureError

SIGNATURE_HASHES = (hashes.SHA256, hashes.SHA384)
"""Hashes that an ECDSA signature may use."""


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Turn every way in which hostile DER fails to parse into one error."""
    try:
        yield
    except FinSecureError:
        raise
    except (ValueError, TypeError, x509.DuplicateExtension, x509.ExtensionNotFound) as error:
        raise AuthenticationError(
            "CERTIFICATE_MALFORMED", f"The {what} is not well-formed."
        ) from error
    except (UnsupportedAlgorithm, x509.UnsupportedGeneralNameType, x509.InvalidVersion) as error:
        raise AuthenticationError(
            "CERTIFICATE_MALFORMED", f"The {what} uses what is not allowed here."
        ) from error


def load_certificate(der: bytes, what: str) -> x509.Certificate:
    """Parse a certificate; `what` names it in errors. Call it inside `parsing`."""
    if len(der) > MAXIMUM_DER:
        raise AuthenticationError("CERTIFICATE_MALFORMED", f"The {what} is over {MAXIMUM_DER} B.")
    certificate = x509.load_der_x509_certificate(der)
    if certificate.version is not x509.Version.v3:
        raise AuthenticationError("CERTIFICATE_MALFORMED", f"The {what} is not of version 3.")
    if certificate.serial_number <= 0:
        raise AuthenticationError("CERTIFICATE_MALFORMED", f"The {what} has no positive serial.")
    if not isinstance(certificate.signature_hash_algorithm, SIGNATURE_HASHES):
        raise AuthenticationError("CERTIFICATE_MALFORMED", f"The {what} is signed with weak means.")
    return certificate


def issued_by(subject: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the names and the signature say that `issuer` issued `subject`."""
    try:
        subject.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _check_window(certificate: x509.Certificate, now: datetime, what: str) -> None:
    if now < certificate.not_valid_before_utc:
        raise AuthenticationError(
            "CERTIFICATE_EXPIRED",
            f"The {what} is not valid before {certificate.not_valid_before_utc.isoformat()}: "
            "compare the clocks of both machines.",
        )
    if now > certificate.not_valid_after_utc:
        raise AuthenticationError(
            "CERTIFICATE_EXPIRED",
            f"The {what} expired at {certificate.not_valid_after_utc.isoformat()}: renew it, or "
            "enrol again with a new API key.",
        )


def check_chain(chains: list[tuple[x509.Certificate, x509.Certificate]], now: datetime) -> datetime:
    """Demand that one of the chains (at least one) is valid now; returns until when one is."""
    ends: list[datetime] = []
    failure: AuthenticationError | None = None
    for intermediate, root in chains:
        try:
            _check_window(intermediate, now, "intermediate certificate")
            _check_window(root, now, "root certificate")
        except AuthenticationError as error:
            failure = error
        else:
            ends.append(min(intermediate.not_valid_after_utc, root.not_valid_after_utc))
    if failure is not None and not ends:
        raise failure
    return max(ends)


def key_id(authority: x509.Certificate) -> bytes:
    """Subject key identifier of an authority's certificate, computed from its key.

    Source: RFC 5280, section 4.2.1.2, method 1: SHA-1 of the key, as a name and not as a proof.
    """
    key = authority.public_key()
    return x509.SubjectKeyIdentifier.from_public_key(key).digest


@dataclass(frozen=True)
class TrustAnchors:
    """The certificate authorities that are believed: pinned roots, and intermediates below them.

    Attributes:
        roots: root certificates, DER; pinned, all of one domain.
        intermediates: intermediate certificates, DER, each issued by one of the roots.

        domain: the domain that they speak for.
        key_ids: subject key identifiers of the intermediates.

    Raises:
        AuthenticationError: CERTIFICATE_MALFORMED or CERTIFICATE_UNTRUSTED when one does not
            keep the profile; the fault of whoever supplied it. Validity is checked at each use.
    """

    roots: tuple[bytes, ...]
    intermediates: tuple[bytes, ...]
    domain: str = field(init=False)
    key_ids: frozenset[bytes] = field(init=False, repr=False, compare=False)
    _chains: tuple[tuple[x509.Certificate, x509.Certificate], ...] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        with parsing("authority certificate"):
            roots = [load_certificate(der, "root certificate") for der in self.roots]
            domains = {authority_domain(root, root=True) for root in roots}
            for root in roots:
                if not issued_by(root, root):
                    raise AuthenticationError(
                        "CERTIFICATE_UNTRUSTED", "A root certificate is not self-signed."
                    )
            chains: list[tuple[x509.Certificate, x509.Certificate]] = []
            for der in self.intermediates:
                intermediate = load_certificate(der, "intermediate certificate")
                domains.add(authority_domain(intermediate, root=False))
                parents = [root for root in roots if issued_by(intermediate, root)]
                if not parents:
                    raise AuthenticationError(
                        "CERTIFICATE_UNTRUSTED",
                        "An intermediate certificate was not issued by a pinned root: compare "
                        "root.pem with the fingerprint that the operator gave you.",
                    )
                chains.extend((intermediate, parent) for parent in parents)
            identifiers = frozenset(key_id(intermediate) for intermediate, _ in chains)
        if len(domains) != 1:
            raise AuthenticationError(
                "CERTIFICATE_UNTRUSTED", "The authorities do not all belong to one domain."
            )
        object.__setattr__(self, "domain", domains.pop())
        object.__setattr__(self, "key_ids", identifiers)
        object.__setattr__(self, "_chains", tuple(chains))

    def issuers(self) -> tuple[tuple[x509.Certificate, x509.Certificate], ...]:
        """The pairs (intermediate, its root) whose signatures have been verified."""
        return self._chains


@dataclass(frozen=True)
class RevocationList:
    """A verified certificate revocation list (RFC 5280, section 5).

    Serial numbers are random and unique in the whole domain, so one list, signed by whichever
    intermediate is active, covers the certificates of all intermediates. What is listed with the
    reason certificateHold (section 5.3.1) is not revoked but suspended, and may come back.

    Attributes:
        number: CRL number; grows with each list.
        this_update: when it was made.
        next_update: until when it may be relied on.
        serials: serial numbers of revoked certificates.
        holds: serial numbers of suspended certificates.
        der: the list itself.
    """

    number: int
    this_update: datetime
    next_update: datetime
    serials: frozenset[int] = field(repr=False)
    holds: frozenset[int] = field(repr=False)
    der: bytes = field(repr=False)

    @classmethod
    def parse(cls, der: bytes, anchors: TrustAnchors, now: datetime) -> "RevocationList":
        """Read a list and verify that a trusted intermediate signed it.

        Raises:
            AuthenticationError: CERTIFICATE_MALFORMED, CERTIFICATE_UNTRUSTED, or
                REVOCATION_LIST_STALE when `now` is past its next update; the peer's fault.
        """
        with parsing("revocation list"):
            crl = x509.load_der_x509_crl(der)
            number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            known = {x509.CRLNumber.oid, x509.AuthorityKeyIdentifier.oid}
            check_critical(crl.extensions, known, "revocation list")
            next_update = crl.next_update_utc
            if next_update is None or not isinstance(
                crl.signature_hash_algorithm, SIGNATURE_HASHES
            ):
                raise AuthenticationError(
                    "CERTIFICATE_MALFORMED", "The revocation list has no end or a weak signature."
                )
            entries = {entry.serial_number: _on_hold(entry) for entry in crl}
            parsed = cls(
                number=number,
                this_update=crl.last_update_utc,
                next_update=next_update,
                serials=frozenset(serial for serial, hold in entries.items() if not hold),
                holds=frozenset(serial for serial, hold in entries.items() if hold),
                der=der,
            )
            signers = [
                (intermediate, root)
                for intermediate, root in anchors.issuers()
                if crl.issuer == intermediate.subject
                and crl.is_signature_valid(intermediate.public_key())  # type: ignore[arg-type]
            ]
        if not signers:
            raise AuthenticationError(
                "CERTIFICATE_UNTRUSTED", "The revocation list is not signed by a known authority."
            )
        check_chain(signers, now)
        parsed.check_fresh(now)
        return parsed

    def check_fresh(self, now: datetime) -> None:
        """Raise REVOCATION_LIST_STALE when the list may no longer be relied on."""
        if now > self.next_update:
            raise AuthenticationError(
                "REVOCATION_LIST_STALE",
                f"The newest revocation list ended at {self.next_update.isoformat()}: nobody is "
                "let in until the key service can be reached again.",
            )


def _on_hold(entry: x509.RevokedCertificate) -> bool:
    for extension in entry.extensions:
        if isinstance(extension.value, x509.CRLReason):
            return extension.value.reason is x509.ReasonFlags.certificate_hold
    return False
