"""Audited sums as plain records: what the store keeps and everything reads."""

from dataclasses import dataclass
from enum import Enum

from finsecure_crypto.homomorphic.decryption import Contribution

from finsecure_aggregator.records import TrusteeAnswer


class SumState(Enum):
    """Where a sum stands."""

    COLLECTING = "collecting"
    OPENING = "opening"
    OPENED = "opened"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the sum."""
        return self not in (SumState.COLLECTING, SumState.OPENING)


@dataclass(frozen=True)
class Excluded:
    """A member whose contribution is not in the totals.

    Attributes:
        client: id.
        reason: reason code.
    """

    client: str
    reason: str


@dataclass(frozen=True)
class SumRecord:
    """One audited sum.

    Attributes:
        name: resource name.
        spec: deterministic serialisation of its SumSpec.
        creator: SPIFFE ID of whoever created it.
        nonce: 32 random bytes.
        key_digest: of the encryption key, 32 bytes.
        ciphertext_bytes: of each ciphertext.
        input_bytes: of a contribution.
        create_ns: when it was created.
        collecting_ns: until when contributions are taken.
        state: where it stands.
        reason: code where it has failed.
        detail: what state and reason mean in words.
        opening_ns: until when trustees are asked; None before they are.
        end_ns: when it ended.
        excluded: whose contributions are left out of the totals.
        trustees: what those said that were asked to open it.
        totals: by label, once opened.
        contributions: how many there are.
    """

    name: str
    spec: bytes
    creator: str
    nonce: bytes
    key_digest: bytes
    ciphertext_bytes: int
    input_bytes: int
    create_ns: int
    collecting_ns: int
    state: SumState = SumState.COLLECTING
    reason: str = ""
    detail: str = ""
    opening_ns: int | None = None
    end_ns: int | None = None
    excluded: tuple[Excluded, ...] = ()
    trustees: tuple[TrusteeAnswer, ...] = ()
    totals: tuple[int, ...] | None = None
    contributions: int = 0


@dataclass(frozen=True)
class SumStatus:
    """A sum with whoever has contributed.

    Attributes:
        record: the sum.
        manifest: the signed contributions, in the order of the clients' ids.
    """

    record: SumRecord
    manifest: tuple[Contribution, ...]
