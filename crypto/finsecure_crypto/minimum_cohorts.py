"""The minimum cohorts of a federation: fewest clients among whom one's input is hidden.

The key service says them and publishes their digest in its audit log. Aggregator, trustees and
clients demand them beside what they have pinned themselves: of two minima the larger one counts.
"""

from dataclasses import dataclass
from typing import Self

from finsecure_crypto import transcript
from finsecure_crypto.errors import IntegrityError, InvalidArgumentError, PolicyError

DEFAULT_ROUND_COHORT = 3
DEFAULT_SUM_COHORT = 50
MAXIMUM_ROUND_COHORT = 100_000
MAXIMUM_SUM_COHORT = 10_000

_LEAST = 2


@dataclass(frozen=True)
class MinimumCohorts:
    """What a federation demands, as of one revision.

    Attributes:
        federation: resource name.
        revision: counts changes, from 1.
        rounds: fewest clients whose inputs to a round may be summed, 2 to 100 000.
        sums: fewest members whose contributions to an audited sum may be opened, 2 to 10 000.
    """

    federation: str
    revision: int
    rounds: int = DEFAULT_ROUND_COHORT
    sums: int = DEFAULT_SUM_COHORT

    def __post_init__(self) -> None:
        """Refuse what no federation demands.

        Raises:
            InvalidArgumentError: MINIMUM_OUT_OF_RANGE; the caller's.
        """
        if not (
            self.revision >= 1
            and _LEAST <= self.rounds <= MAXIMUM_ROUND_COHORT
            and _LEAST <= self.sums <= MAXIMUM_SUM_COHORT
        ):
            raise InvalidArgumentError(
                "MINIMUM_OUT_OF_RANGE",
                f"a minimum cohort is {_LEAST} to {MAXIMUM_ROUND_COHORT} clients, and that of "
                f"audited sums {_LEAST} to {MAXIMUM_SUM_COHORT}",
            )

    def digest(self) -> bytes:
        """What is published in the audit log, 32 bytes."""
        return transcript.digest(
            "minimum-cohorts", self.federation, self.revision, self.rounds, self.sums
        )

    def follows(self, known: Self) -> bool:
        """Whether this is newer than what is known.

        Raises:
            IntegrityError: FEDERATION_ROLLED_BACK for an earlier revision, or another one of the
                same number; the key service's fault.
        """
        if self.revision < known.revision or (self.revision == known.revision and self != known):
            raise IntegrityError(
                "FEDERATION_ROLLED_BACK",
                f"the key service says revision {self.revision} of {self.federation}, and revision "
                f"{known.revision} was verified before; ask its operator, and go on with nothing",
            )
        return self != known

    def require_round(self, minimum: int) -> None:
        """Refuse a round that may sum the inputs of fewer.

        Raises:
            PolicyError: COHORT_BELOW_FEDERATION_MINIMUM; whoever made the task.
        """
        if minimum < self.rounds:
            raise _below(f"a round of {minimum} clients", self.federation, self.rounds)

    def require_sum(self, minimum: int) -> None:
        """Refuse an audited sum that may be opened with fewer.

        Raises:
            PolicyError: COHORT_BELOW_FEDERATION_MINIMUM; whoever asks for the sum.
        """
        if minimum < self.sums:
            raise _below(f"an audited sum of {minimum} members", self.federation, self.sums)


def _below(what: str, federation: str, minimum: int) -> PolicyError:
    return PolicyError(
        "COHORT_BELOW_FEDERATION_MINIMUM",
        f"{what} is below the minimum cohort of {federation}, which is {minimum}: ask for more, or "
        "have two security officers lower the minimum",
    )
