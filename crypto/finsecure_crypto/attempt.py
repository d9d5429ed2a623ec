"""What identifies one attempt at a round, whichever way its inputs are protected."""

from dataclasses import dataclass

from finsecure_crypto.encoding import VectorLayout
from finsecure_crypto.errors import InvalidArgumentError

DIGEST_BYTES = 32
MAX_ROSTER = 100_000


@dataclass(frozen=True)
class Attempt:
    """Public parameters that one attempt at a round has in any case.

    Attributes:
        federation: id of the federation.
        task: id of the task.
        round_number: number of the round, from 0.
        attempt: attempt at that number, from 1.
        attempt_nonce: 32 random bytes, fresh for each attempt.
        model_digest: SHA-256 of the model that the round starts from, 32 bytes.
        task_digest: digest of the task's specification, 32 bytes.
        minimum_cohort: fewest inputs that may be summed, at least 2.
        layout: how a vector becomes words; its cohort bounds the roster.

    Raises:
        InvalidArgumentError: `NAME_EMPTY`, `ROUND_NUMBER`, `DIGEST_LENGTH`, `COHORT_BOUNDS`; the
            caller's.
    """

    federation: str
    task: str
    round_number: int
    attempt: int
    attempt_nonce: bytes
    model_digest: bytes
    task_digest: bytes
    minimum_cohort: int
    layout: VectorLayout

    def __post_init__(self) -> None:
        if not self.federation or not self.task:
            raise InvalidArgumentError("NAME_EMPTY", "name the federation and the task")
        if self.round_number < 0 or self.attempt < 1:
            raise InvalidArgumentError(
                "ROUND_NUMBER", "rounds are numbered from 0 and attempts from 1"
            )
        for name in ("attempt_nonce", "model_digest", "task_digest"):
            if len(getattr(self, name)) != DIGEST_BYTES:
                raise InvalidArgumentError("DIGEST_LENGTH", f"{name} has {DIGEST_BYTES} bytes")
        if not 2 <= self.minimum_cohort <= self.layout.cohort <= MAX_ROSTER:
            raise InvalidArgumentError(
                "COHORT_BOUNDS",
                f"the minimum cohort is at least 2 and at most the {self.layout.cohort} clients "
                f"that the layout's lanes are sized for, which are at most {MAX_ROSTER}",
            )
