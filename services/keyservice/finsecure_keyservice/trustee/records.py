"""What a trustee remembers, as plain immutable records."""

from dataclasses import dataclass, field

from finsecure_crypto.homomorphic.key_record import KeyDescription


@dataclass(frozen=True)
class HeldKey:
    """A key of which this trustee holds a share.

    Attributes:
        description: what all trustees have signed.
        holder: number of this trustee's share, from 1.
        public_key: canonical public key.
        wrapped_share: the share, wrapped for storing.
        origin: digest of the ceremony that made it, 32 bytes.
    """

    description: KeyDescription
    holder: int
    public_key: bytes = field(repr=False)
    wrapped_share: bytes = field(repr=False)
    origin: bytes


@dataclass(frozen=True)
class Opening:
    """A granted request with the partial that was given.

    Attributes:
        request_digest: `DecryptionRequest.digest()`.
        subject: resource name of what was opened.
        key_name: resource name of the key.
        partial: this trustee's part.
        sha256: of the partial.
    """

    request_digest: bytes
    subject: str
    key_name: str
    partial: bytes = field(repr=False)
    sha256: bytes
