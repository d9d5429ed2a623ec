"""The public parameters of a round, validated once, and what both sides derive from them.

The threshold and the number of neighbours are derived from the parameters and the roster's size
by each side for itself and never sent: a server that could name them would set the security of
its clients.
"""

from dataclasses import dataclass
from enum import StrEnum

from finsecure_crypto import transcript
from finsecure_crypto.attempt import Attempt
from finsecure_crypto.errors import InvalidArgumentError, PolicyError
from finsecure_crypto.secagg import sparse_search

PROTOCOL_VERSION = 1


class Profile(StrEnum):
    """The adversary that a round withstands."""

    ACTIVE = "active"
    """A malicious aggregator together with fewer than a third of the clients."""
    SEMI_HONEST = "semi_honest"
    """An aggregator that follows the protocol, together with fewer than t clients."""


@dataclass(frozen=True)
class SparseGraph:
    """What the sparse masking graph (Bell et al., CCS 2020) has to withstand.

    Attributes:
        corrupt_fraction: the paper's gamma, share of clients that collude with the aggregator.
        dropout_fraction: the paper's delta, share of clients that may drop out.

    Raises:
        InvalidArgumentError: `GRAPH_FRACTIONS`, unless both are in [0, 1) and their sum is below
            1; the caller's.
    """

    corrupt_fraction: float
    dropout_fraction: float

    def __post_init__(self) -> None:
        fractions = (self.corrupt_fraction, self.dropout_fraction)
        if not all(0 <= f < 1 for f in fractions) or sum(fractions) >= 1:
            raise InvalidArgumentError(
                "GRAPH_FRACTIONS",
                "the corrupt and the drop-out fraction are at least 0 and sum to less than 1",
            )


@dataclass(frozen=True)
class Thresholds:
    """What a roster's size means for the sharing of secrets.

    Attributes:
        roster_size: the papers' n.
        neighbours: the papers' k; n - 1 is the complete graph.
        threshold: the papers' t, shares that rebuild a secret. In the complete graph a secret has
            n holders, its owner among them; in the sparse graph its owner's k neighbours.
    """

    roster_size: int
    neighbours: int
    threshold: int

    @property
    def complete(self) -> bool:
        """Whether every client masks with every other."""
        return self.neighbours == self.roster_size - 1


@dataclass(frozen=True)
class ClientPolicy:
    """What a client insists on, whatever the server proposes; each bound is the client's own.

    Attributes:
        minimum_cohort: smallest minimum cohort of a round, which then bounds its roster and sum.
        minimum_threshold: smallest t.
        minimum_profile: `ACTIVE` refuses `SEMI_HONEST` rounds.
    """

    minimum_cohort: int = 3
    minimum_threshold: int = 2
    minimum_profile: Profile = Profile.ACTIVE

    def check_parameters(self, parameters: "RoundParameters") -> None:
        """Refuses a round whose profile or cohort is below this policy.

        Raises:
            PolicyError: `PROFILE_BELOW_POLICY` or `COHORT_BELOW_POLICY`; the server's proposal.
        """
        if self.minimum_profile is Profile.ACTIVE and parameters.profile is not Profile.ACTIVE:
            raise PolicyError(
                "PROFILE_BELOW_POLICY",
                f"the round's profile is {parameters.profile}, this client insists on "
                f"{self.minimum_profile}; decline the round or lower the client's own policy",
            )
        self.check_cohort(parameters)

    def check_cohort(self, attempt: Attempt) -> None:
        """Refuses a round, of any kind, whose sum may have too few contributors.

        Raises:
            PolicyError: `COHORT_BELOW_POLICY`; the server's proposal.
        """
        if attempt.minimum_cohort < self.minimum_cohort:
            raise PolicyError(
                "COHORT_BELOW_POLICY",
                f"the round may sum {attempt.minimum_cohort} inputs, this client insists on "
                f"{self.minimum_cohort}; decline the round or lower the client's own policy",
            )

    def check_thresholds(self, thresholds: Thresholds) -> None:
        """Refuses a roster that gives too low a threshold.

        Raises:
            PolicyError: `THRESHOLD_BELOW_POLICY`; the server's proposal.
        """
        if thresholds.threshold < self.minimum_threshold:
            raise PolicyError(
                "THRESHOLD_BELOW_POLICY",
                f"{thresholds.threshold} shares would rebuild a secret, this client insists on "
                f"{self.minimum_threshold}; decline the round or lower the client's own policy",
            )


@dataclass(frozen=True, kw_only=True)
class RoundParameters(Attempt):
    """All public parameters of one attempt at a round under masks.

    Attributes:
        profile: the adversary to withstand.
        graph: bounds for the sparse graph; None is the complete graph.
    """

    profile: Profile
    graph: SparseGraph | None

    def context(self) -> bytes:
        """Returns the digest, 32 bytes, with which every signature and derivation starts.

        It covers every parameter, so that nothing can be replayed into another round and clients
        that were told different things, a different model included, add up to noise (Pasquini et
        al., CCS 2022, is the attack).
        """
        return transcript.digest(
            "context",
            PROTOCOL_VERSION,
            self.federation,
            self.task,
            self.round_number,
            self.attempt,
            self.attempt_nonce,
            self.model_digest,
            self.task_digest,
            self.profile.value,
            *self._graph_parts(),
            self.minimum_cohort,
            self.layout.digest(),
        )

    def thresholds(self, roster_size: int) -> Thresholds:
        """Derives the number of neighbours and the threshold for a roster of this size.

        The sparse graph gives way to the complete one where no smaller k is safe.

        Raises:
            InvalidArgumentError: `ROSTER_SIZE` outside the minimum cohort and the layout's cohort;
                whoever made the roster.
        """
        if not self.minimum_cohort <= roster_size <= self.layout.cohort:
            raise InvalidArgumentError(
                "ROSTER_SIZE",
                f"a roster of {roster_size} clients is not between the minimum cohort "
                f"{self.minimum_cohort} and the {self.layout.cohort} of the layout",
            )
        active = self.profile is Profile.ACTIVE
        if self.graph is not None:
            found = sparse_search.search(
                roster_size, self.graph.corrupt_fraction, self.graph.dropout_fraction, active
            )
            if found is not None:
                return Thresholds(roster_size, *found)
        threshold = 2 * roster_size // 3 + 1 if active else roster_size // 2 + 1
        return Thresholds(roster_size, roster_size - 1, threshold)

    @property
    def input_bytes(self) -> int:
        """Bytes of a masked input: eight for each word of the layout."""
        return 8 * self.layout.words

    def _graph_parts(self) -> tuple[str, str]:
        # repr is the shortest decimal that reads back as the same double, on every machine.
        if self.graph is None:
            return ("complete", "")
        return (repr(float(self.graph.corrupt_fraction)), repr(float(self.graph.dropout_fraction)))


def required_inputs(parameters: RoundParameters, thresholds: Thresholds) -> int:
    """Returns the fewest clients that have to be left after each phase."""
    return max(parameters.minimum_cohort, thresholds.threshold)
