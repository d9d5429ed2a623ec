"""Certificates of the federation: one strict profile, checked the same way by every party.

A chain is always leaf ← intermediate ← root, and a leaf carries exactly one SPIFFE ID. Whatever
the profile does not name is refused. Nothing here reads a clock: `now` is an aware UTC time.
Sources: RFC 5280; RFC 2986 (requests); the SPIFFE standards "SPIFFE-ID" and "X509-SVID".
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from finsecure_crypto.certificate_authorities import (
    SIGNATURE_HASHES,
    RevocationList,
    TrustAnchors,
    check_chain,
    issued_by,
    key_id,
    load_certificate,
    parsing,
)
from finsecure_crypto.certificate_profile import (
    MAXIMUM_DER,
    SIGNING_USAGE,
    Purpose,
    Role,
    SpiffeId,
    authority_extensions,
    leaf_extensions,
    read_leaf,
)
from finsecure_crypto.errors import AuthenticationError, FinSecureError, InvalidArgumentError

__all__ = [
    "SIGNING_USAGE",
    "Certified",
    "Purpose",
    "RevocationList",
    "Role",
    "SpiffeId",
    "TrustAnchors",
    "authority_extensions",
    "check_request",
    "leaf_extensions",
    "verify_certificate",
    "verify_member",
]


@dataclass(frozen=True)
class Certified:
    """What a verified certificate says.

    Attributes:
        spiffe_id: whose it is.
        public_key: SIGNING: the 32 bytes of the Ed25519 key; TLS: SubjectPublicKeyInfo, DER.
        serial: serial number.
        not_before: start of validity.
        not_after: end of validity, of the certificate or of the authorities above it.
        issuer: subject key identifier of the intermediate that issued it.
    """

    spiffe_id: SpiffeId
    public_key: bytes
    serial: int
    not_before: datetime
    not_after: datetime
    issuer: bytes

    def check(self, revocations: RevocationList | None, now: datetime) -> None:
        """Check again what changes with time: validity and revocation.

        Raises:
            AuthenticationError: CERTIFICATE_EXPIRED, CERTIFICATE_REVOKED, MEMBER_SUSPENDED or
                REVOCATION_LIST_STALE.
        """
        if not self.not_before <= now <= self.not_after:
            raise AuthenticationError(
                "CERTIFICATE_EXPIRED",
                f"The certificate of {self.spiffe_id} is valid from "
                f"{self.not_before.isoformat()} to {self.not_after.isoformat()}: renew it, or "
                "compare the clocks of both machines.",
            )
        if revocations is None:
            return
        revocations.check_fresh(now)
        if self.serial in revocations.serials:
            raise AuthenticationError(
                "CERTIFICATE_REVOKED",
                f"The certificate of {self.spiffe_id} was revoked: ask the operator.",
                culprit=self.spiffe_id.id,
            )
        if self.serial in revocations.holds:
            raise AuthenticationError(
                "MEMBER_SUSPENDED",
                f"{self.spiffe_id} is suspended: ask the operator to reactivate it.",
                culprit=self.spiffe_id.id,
            )


def verify_certificate(
    der: bytes,
    anchors: TrustAnchors,
    revocations: RevocationList | None,
    now: datetime,
    purpose: Purpose,
) -> Certified:
    """Verify a leaf certificate against the profile, its chain, the time and the revocation list.

    Args:
        der: the certificate, at most 8192 bytes.
        anchors: the authorities that are believed.
        revocations: newest list; None only where none can be had yet (first enrolment).
        now: aware UTC time.
        purpose: what the certificate must be for.

    Raises:
        AuthenticationError: CERTIFICATE_MALFORMED, CERTIFICATE_UNTRUSTED, CERTIFICATE_EXPIRED,
            CERTIFICATE_REVOKED, MEMBER_SUSPENDED (the holder's fault) or REVOCATION_LIST_STALE
            (this side's).
    """
    with parsing("certificate"):
        leaf = load_certificate(der, "certificate")
        chains = [chain for chain in anchors.issuers() if issued_by(leaf, chain[0])]
        if not chains:
            raise AuthenticationError(
                "CERTIFICATE_UNTRUSTED",
                "The certificate was not issued by an authority of this domain.",
            )
        # Nothing below is believed before the signature above was verified.
        spiffe_id, key = read_leaf(leaf, purpose, anchors.domain)
    chain_end = check_chain(chains, now)
    if isinstance(key, ed25519.Ed25519PublicKey):
        public = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    else:
        public = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    certified = Certified(
        spiffe_id=spiffe_id,
        public_key=public,
        serial=leaf.serial_number,
        not_before=leaf.not_valid_before_utc,
        not_after=min(leaf.not_valid_after_utc, chain_end),
        issuer=key_id(chains[0][0]),
    )
    certified.check(revocations, now)
    return certified


def verify_member(
    der: bytes,
    anchors: TrustAnchors,
    revocations: RevocationList | None,
    now: datetime,
    member: SpiffeId,
) -> bytes:
    """Verify that a signing certificate is a certain member's; returns its Ed25519 key, 32 bytes.

    Raises:
        AuthenticationError: what `verify_certificate` raises, or CERTIFICATE_UNTRUSTED for the
            certificate of somebody else; `culprit` is the member's id.
    """
    try:
        certified = verify_certificate(der, anchors, revocations, now, Purpose.SIGNING)
    except AuthenticationError as error:
        raise AuthenticationError(error.code, error.message, culprit=member.id) from error
    if certified.spiffe_id != member:
        raise AuthenticationError(
            "CERTIFICATE_UNTRUSTED",
            f"The signing certificate is that of {certified.spiffe_id}, not of {member}.",
            culprit=member.id,
        )
    return certified.public_key


def check_request(
    csr_der: bytes, purpose: Purpose
) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    """Check a PKCS#10 request and return its public key, the only thing that is used of it.

    Raises:
        InvalidArgumentError: REQUEST_MALFORMED, REQUEST_ALGORITHM (wrong kind of key or weak
            signature) or REQUEST_UNPROVEN (the signature does not prove possession of the key);
            the fault of whoever asks.
    """
    if len(csr_der) > MAXIMUM_DER:
        raise InvalidArgumentError("REQUEST_MALFORMED", f"The request is over {MAXIMUM_DER} B.")
    try:
        request = x509.load_der_x509_csr(csr_der)
        key = request.public_key()
        hash_algorithm = request.signature_hash_algorithm
        if purpose is Purpose.TLS:
            suitable = (
                isinstance(key, ec.EllipticCurvePublicKey)
                and isinstance(key.curve, ec.SECP256R1)
                and isinstance(hash_algorithm, SIGNATURE_HASHES)
            )
        else:
            suitable = isinstance(key, ed25519.Ed25519PublicKey)
        if not suitable:
            wanted = "an ECDSA P-256" if purpose is Purpose.TLS else "an Ed25519"
            raise InvalidArgumentError("REQUEST_ALGORITHM", f"The request needs {wanted} key.")
        proven = request.is_signature_valid
    except FinSecureError:
        raise
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        InvalidSignature,
        x509.InvalidVersion,
    ) as error:
        raise InvalidArgumentError(
            "REQUEST_MALFORMED", "The certificate request is not a well-formed PKCS#10 request."
        ) from error
    if not proven:
        raise InvalidArgumentError(
            "REQUEST_UNPROVEN", "The request is not signed by the key that it is for."
        )
    assert isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey))  # noqa: S101
    return key
