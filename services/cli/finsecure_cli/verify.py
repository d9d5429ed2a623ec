"""Verify model versions: who signed, what was signed, and that the file is the one described."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from finsecure_crypto.certificates import (
    Purpose,
    RevocationList,
    Role,
    TrustAnchors,
    verify_certificate,
)
from finsecure_crypto.errors import AuthenticationError, IntegrityError

from finsecure_cli.convert import signed_model

_CLOCK_SKEW = timedelta(minutes=10)


@dataclass(frozen=True)
class ModelVerifier:
    """Verifies the model versions of one federation.

    Attributes:
        trust_domain: of the federation.
        anchors: the authorities that are believed.
        revocations: the newest revocation list.
        now: returns the present time, aware UTC.
    """

    trust_domain: str
    anchors: TrustAnchors
    revocations: RevocationList
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def check(self, description: Mapping[str, Any], content: bytes) -> None:
        """Check a version's description and file.

        The signer's certificate must have been valid at some time since the version was made:
        versions outlive the day for which a certificate lasts, and old ones are signed again with
        newer keys. A revocation counts whenever it happened.

        Args:
            description: the version's document, as `model list` gives it.
            content: the safetensors file.

        Raises:
            InvalidArgumentError: DESCRIPTION_INVALID.
            AuthenticationError: CERTIFICATE_*; the signer is not the federation's aggregator.
            IntegrityError: MODEL_SIGNATURE_REJECTED, MODEL_DIGEST_MISMATCH.
        """
        model = signed_model(description)
        now = self.now()
        made = datetime.fromtimestamp(model.version.create_time_ns / 1e9, UTC)
        if made > now + _CLOCK_SKEW:
            raise AuthenticationError(
                "CERTIFICATE_EXPIRED",
                f"{model.version.name} says that it was made in the future; compare the clocks",
            )
        self.revocations.check_fresh(now)
        signed = max(made, _valid_from(model.certificate))  # it cannot have been earlier
        certified = verify_certificate(
            model.certificate, self.anchors, None, min(signed, now), Purpose.SIGNING
        )
        if certified.serial in self.revocations.serials | self.revocations.holds:
            raise AuthenticationError(
                "CERTIFICATE_REVOKED",
                f"the certificate that signed {model.version.name} was revoked; do not use it",
            )
        signer = certified.spiffe_id
        if signer.role is not Role.AGGREGATOR or signer.trust_domain != self.trust_domain:
            raise AuthenticationError(
                "CERTIFICATE_UNTRUSTED",
                f"{model.version.name} is signed by {signer}, which is not the aggregator of "
                f"{self.trust_domain}; do not use it",
            )
        model.version.verify(certified.public_key, model.signature)
        if (
            len(content) != model.version.size_bytes
            or hashlib.sha256(content).digest() != model.version.sha256
        ):
            raise IntegrityError(
                "MODEL_DIGEST_MISMATCH",
                f"the file is not the signed one of {model.version.name}; download it again",
            )


def _valid_from(certificate: bytes) -> datetime:
    """Read when a certificate begins, which nobody has verified yet."""
    try:
        return x509.load_der_x509_certificate(certificate).not_valid_before_utc
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)  # the check of the certificate says what is wrong
