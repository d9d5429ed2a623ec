"""The certificate authority: makes the root and the intermediate, issues, and signs the CRL.

Keys and `now` come in, certificates go out; nothing here reads a clock, a file or a store. The
root (P-384, or P-256 where its key lies in a token) signs one intermediate and is then kept
offline; the intermediate (P-256) signs everything else. Source of the profile: RFC 5280 sections 4
and 5; SPIFFE X509-SVID sections 2 and 4 (one URI SAN, leaf not a CA).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from finsecure_crypto.certificate_authorities import key_id
from finsecure_crypto.certificates import (
    Purpose,
    SpiffeId,
    TrustAnchors,
    authority_extensions,
    leaf_extensions,
)
from finsecure_crypto.errors import StateError
from finsecure_crypto.intermediate import BACKDATE, certify_intermediate, root_hash

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True)
class Revoked:
    """One entry of a revocation list; `hold` means suspended (RFC 5280, 5.3.1)."""

    serial: int
    time: datetime
    hold: bool = False


@dataclass(frozen=True)
class Root:
    """The root authority, for as long as its key is at hand."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(
        cls,
        domain: str,
        now: datetime,
        lifetime: timedelta,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> "Root":
        """Make a self-signed root.

        Args:
            domain: what it is the root of.
            now: the time.
            lifetime: how long it is valid.
            key: its key, P-256 or P-384, which may lie in a token; None makes one on P-384.
        """
        key = key or ec.generate_private_key(ec.SECP384R1())
        public_key = key.public_key()
        attribute = x509.NameAttribute(NameOID.COMMON_NAME, f"FinSecure root {domain}"[:64])
        name = x509.Name([attribute])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + lifetime)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )
        for extension, critical in authority_extensions(domain, path_length=1):
            builder = builder.add_extension(extension, critical=critical)
        return cls(builder.sign(key, root_hash(key)), key)

    def create_intermediate(
        self,
        now: datetime,
        lifetime: timedelta,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> "Authority":
        """Make a P-256 intermediate that may sign leaves only.

        Args:
            now: the time.
            lifetime: how long it is valid, but never longer than the root.
            key: its key, which may lie in a token; None makes one in memory.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = certify_intermediate(
            key.public_key(), self.certificate, self.key, now, lifetime
        )
        return Authority(self.certificate, certificate, key)


@dataclass(frozen=True)
class Authority:
    """The intermediate authority, which signs leaves and revocation lists."""

    root: x509.Certificate
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def id(self) -> str:
        """Subject key identifier, lower-case hexadecimal."""
        return key_id(self.certificate).hex()

    @property
    def anchors(self) -> TrustAnchors:
        """What a verifier needs."""
        return TrustAnchors(
            roots=(self.root.public_bytes(serialization.Encoding.DER),),
            intermediates=(self.certificate.public_bytes(serialization.Encoding.DER),),
        )

    def issue(
        self,
        identity: SpiffeId,
        purpose: Purpose,
        public_key: PublicKey,
        now: datetime,
        lifetime: timedelta,
    ) -> x509.Certificate:
        """Certify that a public key speaks for an identity.

        The certificate is valid from ten minutes ago, for `lifetime` from now, and never longer
        than its issuer. It has no subject: the one URI in the subject alternative name is the
        identity, so there is no second name to disagree with it.

        Raises:
            StateError: AUTHORITY_EXPIRED if the intermediate's own time is over.
        """
        if now >= self.certificate.not_valid_after_utc:
            raise StateError(
                "AUTHORITY_EXPIRED",
                "the intermediate certificate has expired; prepare and activate another one with "
                "`finsecure ca`, and let all members enrol again",
            )
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - BACKDATE, self.certificate.not_valid_before_utc))
            .not_valid_after(min(now + lifetime, self.certificate.not_valid_after_utc))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(_issuer(self.certificate), critical=False)
        )
        for extension, critical in leaf_extensions(identity, purpose):
            # RFC 5280, 4.2.1.6: with an empty subject the alternative name is critical.
            names_it = isinstance(extension, x509.SubjectAlternativeName)
            builder = builder.add_extension(extension, critical=critical or names_it)
        return builder.sign(self.key, hashes.SHA256())

    def revocation_list(
        self, revoked: Iterable[Revoked], number: int, now: datetime, lifetime: timedelta
    ) -> x509.CertificateRevocationList:
        """Sign the list of revoked serial numbers, valid for `lifetime` from now.

        `number` grows with each list (RFC 5280, 5.2.3), so that a receiver can refuse an older
        one.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - BACKDATE)
            .next_update(now + lifetime)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(_issuer(self.certificate), critical=False)
        )
        for entry in revoked:
            listed = (
                x509.RevokedCertificateBuilder()
                .serial_number(entry.serial)
                .revocation_date(entry.time)
            )
            if entry.hold:
                reason = x509.CRLReason(x509.ReasonFlags.certificate_hold)
                listed = listed.add_extension(reason, critical=False)
            builder = builder.add_revoked_certificate(listed.build())
        return builder.sign(self.key, hashes.SHA256())


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate in hexadecimal, as people compare it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":")


def _issuer(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(extension.value)
