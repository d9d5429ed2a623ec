"""Whose certificates this client believes, and for what.

Authorities and revocation list come from the key service, never through the aggregator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from finsecure_crypto.certificates import (
    Certified,
    Purpose,
    RevocationList,
    Role,
    TrustAnchors,
    verify_certificate,
)
from finsecure_crypto.errors import AuthenticationError
from finsecure_crypto.model_version import ModelVersion
from finsecure_rpc.encryption_keys import RegisteredKey


@dataclass(frozen=True)
class SignedModel:
    """The aggregator's signed description of a model version, as received.

    Attributes:
        version: what is described.
        signature: of the aggregator.
        certificate: of the aggregator, DER.
        envelope: statement that a managed key signed, DSSE; empty if there is none.
    """

    version: ModelVersion
    signature: bytes
    certificate: bytes
    envelope: bytes = b""


@dataclass(frozen=True)
class Trust:
    """Verifies peers and models of one federation.

    Attributes:
        trust_domain: of the federation; nobody from another one is believed.
        anchors: returns the present authorities.
        revocations: returns the newest revocation list, or raises REVOCATION_LIST_STALE.
        now: returns the present time, aware UTC.
    """

    trust_domain: str
    anchors: Callable[[], TrustAnchors]
    revocations: Callable[[], RevocationList]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def peer(self, client: str, certificate: bytes) -> bytes:
        """Verify that a signing certificate is the named client's and return its public key.

        Raises:
            AuthenticationError: what `verify_certificate` raises, or CERTIFICATE_UNTRUSTED where
                it is somebody else's; whoever put the certificate into the roster is at fault.
        """
        certified = verify_certificate(
            certificate, self.anchors(), self.revocations(), self.now(), Purpose.SIGNING
        )
        self._check_name(certified, Role.CLIENT, client)
        return certified.public_key

    def check_model(self, model: SignedModel) -> None:
        """Verify who signs for a model version now, and the signature.

        The aggregator signs a version again with its present key whenever it hands it out, so
        the certificate must be in date now, however old the version is.

        Raises:
            AuthenticationError: what `verify_certificate` raises, or CERTIFICATE_UNTRUSTED.
            IntegrityError: MODEL_SIGNATURE_REJECTED.
        """
        certified = verify_certificate(
            model.certificate, self.anchors(), self.revocations(), self.now(), Purpose.SIGNING
        )
        self._check_name(certified, Role.AGGREGATOR, None)
        model.version.verify(certified.public_key, model.signature)

    def check_encryption_key(self, key: RegisteredKey) -> None:
        """Verify that an encryption key is one that the federation's trustees have signed.

        Raises:
            AuthenticationError: a trustee's certificate does not hold.
            IntegrityError: KEY_NOT_ENDORSED.
        """
        key.verify(self.trust_domain, self.anchors(), self.revocations())

    def _check_name(self, certified: Certified, role: Role, name: str | None) -> None:
        found = certified.spiffe_id
        if (
            found.trust_domain != self.trust_domain
            or found.role is not role
            or (name is not None and found.id != name)
        ):
            raise AuthenticationError(
                "CERTIFICATE_UNTRUSTED",
                f"a certificate of {found} was shown for {role.value} {name or ''} of "
                f"{self.trust_domain}",
                culprit=found.id,
            )
