"""What a sum's specification says, and what this federation demands of it."""

from dataclasses import dataclass

from finsecure_crypto.errors import InvalidArgumentError, PolicyError
from finsecure_crypto.homomorphic.decryption import EncryptedContext
from finsecure_crypto.homomorphic.sums import SumTerms

from finsecure_aggregator.sums.records import SumRecord

_SECOND_NS = 10**9
_DAY_NS = 86_400 * _SECOND_NS
MOST_BYTES = 3_500_000  # of a contribution, which is one message


@dataclass(frozen=True)
class SumRules:
    """What the federation's operator has decided.

    Attributes:
        minimum_contributors: no sum may be of fewer.
        at_once: most sums of one creator that have not ended.
    """

    minimum_contributors: int
    at_once: int


@dataclass(frozen=True)
class SumPlan:
    """A sum's specification.

    Attributes:
        name: resource name of the sum.
        spec: deterministic serialisation of its SumSpec.
        terms: what is added up, and for how many.
        collecting_ns: how long contributions are taken.
        opening_ns: how long trustees are asked.
    """

    name: str
    spec: bytes
    terms: SumTerms
    collecting_ns: int
    opening_ns: int

    def check(self, rules: SumRules) -> None:
        """Refuse what this federation does not do.

        Raises:
            PolicyError: MINIMUM_BELOW_POLICY.
            InvalidArgumentError: DEADLINE_BOUNDS.
        """
        if self.terms.minimum_contributors < rules.minimum_contributors:
            raise PolicyError(
                "MINIMUM_BELOW_POLICY",
                f"no sum of fewer than {rules.minimum_contributors} contributors is opened in this "
                f"federation; {self.terms.minimum_contributors} are asked for",
            )
        if not (
            _SECOND_NS <= self.collecting_ns <= 7 * _DAY_NS
            and _SECOND_NS <= self.opening_ns <= _DAY_NS
        ):
            raise InvalidArgumentError(
                "DEADLINE_BOUNDS",
                "contributions are taken for a second to a week, and trustees asked for a second "
                "to a day; change collecting or opening",
            )

    def binding(self, record: SumRecord) -> EncryptedContext:
        """What contributions and trustees' answers are bound to."""
        return self.terms.binding(self.name, self.spec, record.nonce, record.key_digest)
