"""Who is calling: set by the interceptor for the length of one RPC."""

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime

from finsecure_crypto.certificates import Role, SpiffeId
from finsecure_crypto.errors import AuthenticationError


@dataclass(frozen=True)
class Peer:
    """A caller whose certificate was verified.

    Attributes:
        spiffe_id: who it is.
        serial: serial number of its TLS certificate.
        not_after: when that certificate ends.
    """

    spiffe_id: SpiffeId
    serial: int
    not_after: datetime

    @property
    def role(self) -> Role:
        """What it is."""
        return self.spiffe_id.role

    @property
    def id(self) -> str:
        """Its id within its trust domain and role."""
        return self.spiffe_id.id

    @property
    def trust_domain(self) -> str:
        """Trust domain that it lives in."""
        return self.spiffe_id.trust_domain


_PEER: ContextVar[Peer | None] = ContextVar("finsecure_peer", default=None)
_ADDRESS: ContextVar[str] = ContextVar("finsecure_address", default="")


def current_peer() -> Peer | None:
    """The caller of the RPC that is being served; None when it did not have to say who it is."""
    return _PEER.get()


def require_peer() -> Peer:
    """The caller of the RPC that is being served.

    Raises:
        AuthenticationError: CERTIFICATE_REQUIRED when the caller is anonymous.
    """
    peer = _PEER.get()
    if peer is None:
        raise AuthenticationError(
            "CERTIFICATE_REQUIRED", "This call needs a client certificate: enrol first."
        )
    return peer


def current_address() -> str:
    """Where the RPC that is being served comes from, such as `ipv4:192.0.2.1`; or empty."""
    return _ADDRESS.get()


def set_peer(peer: Peer | None, address: str = "") -> None:
    """Name the caller of this RPC; the interceptor and tests of handlers call it."""
    _PEER.set(peer)
    _ADDRESS.set(address)
