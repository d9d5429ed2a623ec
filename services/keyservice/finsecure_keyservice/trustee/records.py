"""What a trustee remembers, as plain immutable records."""

from dataclasses import dataclass, field
from datetime import datetime

from finsecure_crypto.errors import StateError
from finsecure_crypto.homomorphic.key_record import KeyDescription


@dataclass(frozen=True)
class HeldKey:
    """A key of which this trustee holds a share.

    Attributes:
        description: what all trustees have signed.
        holder: number of this trustee's share, from 1.
        public_key: canonical public key.
        wrapped_share: the share, wrapped for storing; empty once it was erased.
        origin: digest of the ceremony that made it, 32 bytes.
        destroyed_time: when it was first proven that the key is destroyed, unless it is in use.
    """

    description: KeyDescription
    holder: int
    public_key: bytes = field(repr=False)
    wrapped_share: bytes = field(repr=False)
    origin: bytes
    destroyed_time: datetime | None = None

    @property
    def erased(self) -> bool:
        """Whether the share is gone, because the key was destroyed."""
        return not self.wrapped_share

    def require_share(self) -> None:
        """Refuse what needs the share once it is gone.

        Raises:
            StateError: SHARE_ERASED.
        """
        if self.erased:
            raise StateError(
                "SHARE_ERASED",
                f"this trustee has erased its share of {self.description.name}, which was "
                "destroyed: nothing that it encrypted is opened any more",
            )


@dataclass(frozen=True)
class Opening:
    """A granted request with the partial that was given.

    Attributes:
        request_digest: `DecryptionRequest.digest()`.
        subject: resource name of what was opened.
        key_name: resource name of the key.
        partial: this trustee's part; empty once it was erased with the share.
        sha256: of the partial.
    """

    request_digest: bytes
    subject: str
    key_name: str
    partial: bytes = field(repr=False)
    sha256: bytes
