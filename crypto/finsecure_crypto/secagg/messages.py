"""The messages of the protocol; they mirror the wire contract and hold no logic but their digest.

A message that is made by its constructor is shaped, not trusted: `client` and `server` check what
they receive. Fields with secrets, and long ones, stay out of the text form.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from finsecure_crypto import transcript
from finsecure_crypto.errors import InvalidArgumentError


def _frozen(mapping: Mapping[int, bytes]) -> Mapping[int, bytes]:
    return MappingProxyType(dict(sorted(mapping.items())))


def packed(mapping: Mapping[int, bytes]) -> tuple[bytes, bytes, bytes]:
    """Packs a mapping into three transcript parts, injectively and without a part for each item.

    Returns:
        The indices in order and the lengths of their values, both big-endian uint32, and the
        values in one piece.

    Raises:
        InvalidArgumentError: `TRANSCRIPT_PART` for an index that is no uint32; the caller's.
    """
    indices = sorted(mapping)
    values = [mapping[index] for index in indices]
    try:
        return (
            struct.pack(f">{len(indices)}I", *indices),
            struct.pack(f">{len(values)}I", *map(len, values)),
            b"".join(values),
        )
    except struct.error:
        raise InvalidArgumentError("TRANSCRIPT_PART", "an index is not a uint32") from None


def digest_of_shares(shares: Mapping[int, bytes]) -> bytes:
    """Returns the digest of encrypted shares that their dealer signs, 32 bytes."""
    return transcript.digest("shares", *packed(shares))


@dataclass(frozen=True)
class KeyAdvertisement:
    """A client's signed public keys (AdvertiseKeys, client to server).

    Attributes:
        client: id of the client.
        channel_key: X25519 public key of the share channels, the paper's c_pk; 32 bytes.
        mask_key: X25519 public key of the masks, the paper's s_pk; 32 bytes.
        signature: Ed25519 signature over context and keys; 64 bytes.
        certificate: signing certificate of the client, DER.
    """

    client: str
    channel_key: bytes
    mask_key: bytes
    signature: bytes
    certificate: bytes = field(repr=False)

    def digest(self) -> bytes:
        """Returns a digest by which a repeated message is told from a different one."""
        return transcript.digest("message/key-advertisement", *self.parts())

    def parts(self) -> tuple[str | bytes, ...]:
        """Returns all fields in order, as they enter the roster."""
        return (self.client, self.channel_key, self.mask_key, self.signature, self.certificate)


@dataclass(frozen=True)
class RosterEntry:
    """An advertisement with its place in the roster.

    Attributes:
        index: roster index, from 0, in the order of the ids.
        advertisement: the advertisement.
        inclusion_proof: RFC 6962 audit path; empty when the whole roster is sent.
    """

    index: int
    advertisement: KeyAdvertisement
    inclusion_proof: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Roster:
    """What a client needs to know of the others (ShareKeys, server to client).

    Attributes:
        size: clients in the round, the papers' n.
        root: RFC 6962 Merkle tree hash over all entries; 32 bytes.
        index: the receiver's own index.
        entries: the receiver and its neighbours, ascending by index.
    """

    size: int
    root: bytes
    index: int
    entries: tuple[RosterEntry, ...] = field(repr=False)


@dataclass(frozen=True)
class KeyShares:
    """Encrypted shares of a client's two secrets (ShareKeys, client to server).

    Attributes:
        shares: ciphertext for each neighbour, by roster index.
        self_mask_commitment: commitment to the seed of the self mask; 32 bytes.
        signature: Ed25519 signature over session, shares and commitment; 64 bytes.
    """

    shares: Mapping[int, bytes] = field(repr=False)
    self_mask_commitment: bytes
    signature: bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", _frozen(self.shares))

    def digest(self) -> bytes:
        """Returns a digest by which a repeated message is told from a different one."""
        return transcript.digest(
            "message/key-shares",
            self.self_mask_commitment,
            self.signature,
            self.shares_digest,
        )

    @cached_property
    def shares_digest(self) -> bytes:
        """Digest of all shares, which the signature covers; made once, since they are many."""
        return digest_of_shares(self.shares)


@dataclass(frozen=True)
class ShareDelivery:
    """The shares for one client, and who shared (SubmitMaskedInput, server to client).

    Attributes:
        sharers: the paper's U2 as a bitmap over the roster.
        shares: ciphertexts by roster index of the sender.
    """

    sharers: bytes
    shares: Mapping[int, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", _frozen(self.shares))


@dataclass(frozen=True)
class MaskedInputHeader:
    """What a client says of its masked vector (SubmitMaskedInput, client to server).

    Attributes:
        size_bytes: bytes of the vector, eight for each word.
        sha256: SHA-256 of the vector's little-endian bytes; 32 bytes.
        signature: Ed25519 signature over session, size and digest; 64 bytes.
    """

    size_bytes: int
    sha256: bytes
    signature: bytes

    def digest(self) -> bytes:
        """Returns a digest by which a repeated message is told from a different one."""
        return transcript.digest(
            "message/masked-input", self.size_bytes, self.sha256, self.signature
        )


@dataclass(frozen=True)
class SurvivorConfirmation:
    """A client's signature over the survivors (ConfirmSurvivors, client to server).

    Attributes:
        signature: Ed25519 signature over session and bitmap; 64 bytes.
    """

    signature: bytes

    def digest(self) -> bytes:
        """Returns a digest by which a repeated message is told from a different one."""
        return transcript.digest("message/survivor-confirmation", self.signature)


@dataclass(frozen=True)
class Confirmations:
    """The confirmations of a client's fellow holders (RevealShares, server to client).

    Attributes:
        signatures: by roster index of the signer.
    """

    signatures: Mapping[int, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signatures", _frozen(self.signatures))


@dataclass(frozen=True)
class RevealedShares:
    """The shares that a client reveals (RevealShares, client to server).

    Attributes:
        self_mask_shares: shares of self-mask seeds, 36 bytes, by roster index of the survivor.
        mask_key_shares: shares of mask-key seeds, 36 bytes, by roster index of the drop-out.
        unreadable: roster indices of the clients whose encrypted share did not open.
    """

    self_mask_shares: Mapping[int, bytes] = field(repr=False)
    mask_key_shares: Mapping[int, bytes] = field(repr=False)
    unreadable: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "self_mask_shares", _frozen(self.self_mask_shares))
        object.__setattr__(self, "mask_key_shares", _frozen(self.mask_key_shares))

    def digest(self) -> bytes:
        """Returns a digest by which a repeated message is told from a different one."""
        return transcript.digest(
            "message/revealed-shares",
            *packed(self.self_mask_shares),
            *packed(self.mask_key_shares),
            *sorted(self.unreadable),
        )


ClientMessage = (
    KeyAdvertisement | KeyShares | MaskedInputHeader | SurvivorConfirmation | RevealedShares
)
ServerMessage = Roster | ShareDelivery | Confirmations | bytes
"""What the server sends; the survivors are a bare bitmap."""
