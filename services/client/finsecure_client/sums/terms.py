"""Audited sums as plain frozen types."""

from collections.abc import Mapping
from dataclasses import dataclass

from finsecure_crypto.homomorphic.decryption import EncryptedContext
from finsecure_crypto.homomorphic.sums import SumTerms

COLLECTING, OPENED = "collecting", "opened"
_UNFINISHED = frozenset({COLLECTING, "opening"})


@dataclass(frozen=True)
class SumSummary:
    """What a list says of a sum.

    Attributes:
        name: resource name.
        description: what is added up, and what for.
        creator: SPIFFE ID of whoever created it.
        state: name of the state, in lower case.
        contributions: so far.
    """

    name: str
    description: str
    creator: str
    state: str
    contributions: int


@dataclass(frozen=True)
class AuditedSum(SumSummary):
    """One audited sum.

    Attributes:
        spec: deterministic serialisation of the received SumSpec; binds contributions to it.
        terms: what is added up, and for how many.
        nonce: 32 random bytes.
        key_digest: of the encryption key, 32 bytes, as the aggregator says.
        reason: code where it has failed.
        detail: what state and reason mean in words.
        contributors: ids, sorted.
        excluded: reason codes of those that are not in the totals, by id.
        totals: by label, once opened.
    """

    spec: bytes
    terms: SumTerms
    nonce: bytes
    key_digest: bytes
    reason: str
    detail: str
    contributors: tuple[str, ...]
    excluded: Mapping[str, str]
    totals: Mapping[str, int] | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state not in _UNFINISHED

    def binding(self) -> EncryptedContext:
        """Returns what a contribution is bound to."""
        return self.terms.binding(self.name, self.spec, self.nonce, self.key_digest)
