"""Who is calling, checked on every call: gRPC never looks again at an open connection.

TLS has verified the chain when the connection opened. The certificate is read once and cached;
its validity and its revocation are checked each time.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto.certificates import (
    Certified,
    Purpose,
    RevocationList,
    TrustAnchors,
    verify_certificate,
)
from finsecure_crypto.errors import AuthenticationError, PermissionDeniedError

from finsecure_rpc.policy import Accepts

_MOST_CACHED = 16_384


class RevocationSource(Protocol):
    """Whoever has the newest revocation list."""

    def current(self) -> RevocationList:
        """Return the newest list.

        Raises:
            AuthenticationError: REVOCATION_LIST_STALE when there is none to rely on.
        """
        ...


def utc_now() -> datetime:
    """The wall clock, aware and in UTC."""
    return datetime.now(UTC)


class Authenticator:
    """Turns the certificate of a connection into a verified identity.

    Args:
        anchors: gives the authorities that are believed now.
        revocations: gives the newest revocation list; without one nobody gets in.
        accepts: which identities this server serves at all, such as those of one federation.
        clock: aware UTC time.
    """

    def __init__(
        self,
        anchors: Callable[[], TrustAnchors],
        revocations: RevocationSource,
        accepts: Accepts,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._anchors = anchors
        self._revocations = revocations
        self._accepts = accepts
        self._clock = clock
        self._cache: OrderedDict[bytes, Certified] = OrderedDict()
        self._cached_for: TrustAnchors | None = None

    def authenticate(self, auth_context: Mapping[str, Iterable[bytes]]) -> Certified | None:
        """Return the caller's identity, or None for a connection without a certificate.

        Raises:
            AuthenticationError: CERTIFICATE_* or REVOCATION_LIST_STALE.
            PermissionDeniedError: TRUST_DOMAIN_REFUSED for an identity of somewhere else.
        """
        pem = next(iter(auth_context.get("x509_pem_cert", ())), None)
        if pem is None:
            return None
        anchors = self._anchors()
        if anchors != self._cached_for:
            self._cache.clear()
            self._cached_for = anchors
        certified = self._cache.get(pem)
        if certified is None:
            certified = self._verify(pem, anchors)
            self._cache[pem] = certified
            if len(self._cache) > _MOST_CACHED:
                self._cache.popitem(last=False)
        self.recheck(certified)
        return certified

    def recheck(self, certified: Certified) -> None:
        """Check again what changes with time.

        Raises:
            AuthenticationError: CERTIFICATE_EXPIRED, CERTIFICATE_REVOKED, MEMBER_SUSPENDED,
                CERTIFICATE_UNTRUSTED when its authority was revoked, or REVOCATION_LIST_STALE.
        """
        if certified.issuer not in self._anchors().key_ids:
            raise AuthenticationError(
                "CERTIFICATE_UNTRUSTED",
                f"The authority that certified {certified.spiffe_id} was revoked: connect again "
                "with a renewed certificate, or enrol again with a new API key.",
            )
        certified.check(self._revocations.current(), self._clock())

    def _verify(self, pem: bytes, anchors: TrustAnchors) -> Certified:
        try:
            der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        except ValueError as error:
            raise AuthenticationError(
                "CERTIFICATE_MALFORMED", "The client certificate cannot be read."
            ) from error
        certified = verify_certificate(der, anchors, None, self._clock(), Purpose.TLS)
        if not self._accepts(certified.spiffe_id):
            raise PermissionDeniedError(
                "TRUST_DOMAIN_REFUSED",
                f"{certified.spiffe_id} is not served here: look at the address you call.",
            )
        return certified
