"""The messages of the protocol; they mirror the wire contract and hold no logic but their digest.

A message that is made by its constructor is shaped, not trusted: `client` and `server` check what
they receive. Fields with secrets, and long ones, stay out of the text form.

What goes to or comes from many clients at once is one byte string of items of one size, in the
order of the roster. Which clients they belong to follows from the roster's graph and the sets that
both sides know, so no item carries an index.
"""

from dataclasses import dataclass, field
from functools import cached_property

from finsecure_crypto import transcript


def digest_of_shares(ciphertexts: bytes) -> bytes:
    """Returns the digest of encrypted shares that their dealer signs, 32 bytes."""
    return transcript.digest("shares", ciphertexts)


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
        ciphertexts: 108 bytes for each neighbour (`envelope.CIPHERTEXT_BYTES`).
        self_mask_commitment: commitment to the seed of the self mask; 32 bytes.
        signature: Ed25519 signature over session, shares and commitment; 64 bytes.
    """

    ciphertexts: bytes = field(repr=False)
    self_mask_commitment: bytes
    signature: bytes

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
        return digest_of_shares(self.ciphertexts)


@dataclass(frozen=True)
class ShareDelivery:
    """The shares for one client, and who shared (SubmitInput, server to client).

    Attributes:
        sharers: the paper's U2 as a bitmap over the roster.
        ciphertexts: 108 bytes from each neighbour that has shared.
    """

    sharers: bytes
    ciphertexts: bytes = field(repr=False)


@dataclass(frozen=True)
class MaskedInputHeader:
    """What a client says of its masked vector (SubmitInput, client to server).

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
        signers: who of the receiver's holders has confirmed, as a bitmap over these.
        signatures: 64 bytes from each of them.
    """

    signers: bytes
    signatures: bytes = field(repr=False)


@dataclass(frozen=True)
class RevealedShares:
    """The shares that a client reveals (RevealShares, client to server).

    Attributes:
        self_mask_shares: shares of self-mask seeds, 36 bytes for each survivor whose share is
            readable.
        mask_key_shares: shares of mask-key seeds, 36 bytes for each drop-out whose share is
            readable.
        unreadable: whose encrypted share did not open, as a bitmap over the client's holders.
    """

    self_mask_shares: bytes = field(repr=False)
    mask_key_shares: bytes = field(repr=False)
    unreadable: bytes

    def digest(self) -> bytes:
        """Returns a digest by which a repeated message is told from a different one."""
        return transcript.digest(
            "message/revealed-shares",
            self.self_mask_shares,
            self.mask_key_shares,
            self.unreadable,
        )


ClientMessage = (
    KeyAdvertisement | KeyShares | MaskedInputHeader | SurvivorConfirmation | RevealedShares
)
ServerMessage = Roster | ShareDelivery | Confirmations | bytes
"""What the server sends; the survivors are a bare bitmap."""
