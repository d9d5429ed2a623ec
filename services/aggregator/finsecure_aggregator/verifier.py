"""Checks that a signing certificate belongs to the client that shows it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from finsecure_crypto.certificates import (
    Purpose,
    Role,
    TrustAnchors,
    verify_certificate,
)
from finsecure_crypto.errors import AuthenticationError, IntegrityError
from finsecure_rpc.authenticator import RevocationSource

from finsecure_aggregator.clock import Clock


class PeerVerifier:
    """Checks signing certificates of a federation's clients.

    Args:
        anchors: gives the certificate authorities.
        revocations: gives the revocation list.
        trust_domain: of the federation.
        clock: time.
    """

    def __init__(
        self,
        anchors: Callable[[], TrustAnchors],
        revocations: RevocationSource,
        trust_domain: str,
        clock: Clock,
    ) -> None:
        self._anchors = anchors
        self._revocations = revocations
        self._trust_domain = trust_domain
        self._clock = clock

    def for_round(self) -> "RoundVerifier":
        """Give the check that one round uses."""
        return RoundVerifier(self)

    def verify(self, client: str, certificate: bytes) -> bytes:
        """Check a client's certificate and give its Ed25519 public key.

        Raises:
            AuthenticationError: CERTIFICATE_* from the chain, or CERTIFICATE_UNTRUSTED if it is
                another identity's; the client's fault.
        """
        now = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)
        certified = verify_certificate(
            certificate, self._anchors(), self._revocations.current(), now, Purpose.SIGNING
        )
        identity = certified.spiffe_id
        if (identity.trust_domain, identity.role, identity.id) != (
            self._trust_domain,
            Role.CLIENT,
            client,
        ):
            raise AuthenticationError(
                "CERTIFICATE_UNTRUSTED",
                f"the signing certificate is not that of client {client} of {self._trust_domain}",
                culprit=client,
            )
        return certified.public_key


class RoundVerifier:
    """The check within one round; while the log is folded it trusts what it has verified before."""

    def __init__(self, verifier: PeerVerifier) -> None:
        self._verifier = verifier
        self._trusting = False

    def __call__(self, client: str, certificate: bytes) -> bytes:
        """Give the Ed25519 public key of a client's certificate, checked as `PeerVerifier`."""
        if not self._trusting:
            return self._verifier.verify(client, certificate)
        key = x509.load_der_x509_certificate(certificate).public_key()
        if not isinstance(key, Ed25519PublicKey):
            raise IntegrityError("LOG_DAMAGED", "a logged certificate has no Ed25519 key")
        return key.public_bytes_raw()

    @contextmanager
    def trusting(self) -> Iterator[None]:
        """Take certificates from the own log as verified."""
        self._trusting = True
        try:
            yield
        finally:
            self._trusting = False
