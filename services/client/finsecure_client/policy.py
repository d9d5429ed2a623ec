"""What this client takes part in at all; the server never sets a client's security.

Every refusal is a `PolicyError` whose code goes to the aggregator with `DeclineRound`. Cohort,
threshold and profile are pinned in `ClientPolicy` of the protocol itself; this is the rest.
"""

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from finsecure_crypto.attempt import Attempt
from finsecure_crypto.errors import PolicyError
from finsecure_crypto.federation import Encryption, Masking
from finsecure_crypto.homomorphic.key_record import Generation
from finsecure_crypto.secagg.parameters import ClientPolicy, RoundParameters

from finsecure_client.terms import Task

MASKS = "masks"


@dataclass(frozen=True)
class Policy:
    """The limits that the client's owner has pinned.

    Attributes:
        federation: the only federation whose tasks are accepted.
        tasks: patterns of task ids, as in file names (`*`, `?`, `[…]`).
        security: smallest cohort and threshold, weakest profile.
        protections: how inputs may be protected: "masks" or names of encryption modes.
        encryption_keys: patterns of ids of encryption keys.
        trustees: ids of the trustees that may hold shares of a key. None by default: whoever
            enrols members could enrol trustees of its own, and read every input.
        dealt_keys: whether a key is accepted whose shares a dealer has made.
        models: names `module:function` that a task may ask for; None leaves it to the trainer.
        maximum_rounds: most rounds of one task.
        maximum_attempts: most attempts at one round; each could reveal another sum.
        maximum_epochs: most passes over the data in one round.
        maximum_parameters: most parameters of a model.
        maximum_inputs: most inputs of a model; the party's table grows by as many columns.
    """

    federation: str
    tasks: tuple[str, ...]
    security: ClientPolicy
    protections: frozenset[str] = frozenset({MASKS})
    encryption_keys: tuple[str, ...] = ("*",)
    trustees: frozenset[str] = frozenset()
    dealt_keys: bool = False
    models: frozenset[str] | None = None
    maximum_rounds: int = 1000
    maximum_attempts: int = 20
    maximum_epochs: int = 20
    maximum_parameters: int = 100_000_000
    maximum_inputs: int = 10_000

    def allows_name(self, name: str) -> bool:
        """Tell whether a task, by resource name, is one of those to take part in."""
        match name.split("/"):
            case ["federations", self.federation, "tasks", task]:
                return any(fnmatchcase(task, pattern) for pattern in self.tasks)
        return False

    def check_task(self, task: Task) -> None:
        """Check a task's terms before anything is done for it.

        Raises:
            PolicyError: TASK_NOT_ALLOWED, MODEL_NOT_ALLOWED, ROUNDS_ABOVE_POLICY,
                EPOCHS_ABOVE_POLICY, MODEL_ABOVE_POLICY, INPUTS_ABOVE_POLICY,
                PROTECTION_NOT_ALLOWED, KEY_NOT_ALLOWED; the task's owner has to change the
                task, or the client's owner the policy.
        """
        if not self.allows_name(task.name):
            raise PolicyError(
                "TASK_NOT_ALLOWED", f"{task.name} matches none of tasks in [policy]; add it there"
            )
        if self.models is not None and task.factory not in self.models:
            raise PolicyError(
                "MODEL_NOT_ALLOWED",
                f"the task's model {task.factory} is not among models in [trainer]; look at its "
                "code, then add it there",
            )
        self.check_protection(task.terms.protection)
        parameters = task.terms.coordinates
        for code, asked, limit, what in (
            ("ROUNDS_ABOVE_POLICY", task.rounds, self.maximum_rounds, "rounds"),
            ("EPOCHS_ABOVE_POLICY", task.training.epochs, self.maximum_epochs, "epochs"),
            ("MODEL_ABOVE_POLICY", parameters, self.maximum_parameters, "parameters"),
            ("INPUTS_ABOVE_POLICY", task.schema.width, self.maximum_inputs, "inputs"),
        ):
            if asked > limit:
                raise PolicyError(
                    code, f"the task has {asked} {what}; maximum_{what} in [policy] is {limit}"
                )

    def check_round(self, task: Task, parameters: Attempt) -> None:
        """Check the parameters of a round of a task.

        Raises:
            PolicyError: ROUND_NOT_ALLOWED, COHORT_BELOW_POLICY, THRESHOLD_BELOW_POLICY,
                PROFILE_BELOW_POLICY, or what `check_task` raises.
        """
        self.check_task(task)
        number, attempt = parameters.round_number, parameters.attempt
        if number > task.rounds or attempt > self.maximum_attempts:
            raise PolicyError(
                "ROUND_NOT_ALLOWED",
                f"attempt {attempt} at round {number} is above the task's {task.rounds} rounds or "
                f"above maximum_attempts {self.maximum_attempts} in [policy]",
            )
        if not isinstance(parameters, RoundParameters):
            self.security.check_cohort(parameters)
            return
        self.security.check_parameters(parameters)
        # A smaller roster lowers the threshold; it is checked again when the roster is known.
        self.security.check_thresholds(parameters.thresholds(parameters.layout.cohort))

    def check_protection(self, protection: Masking | Encryption) -> None:
        """Check how a task protects inputs.

        Raises:
            PolicyError: PROTECTION_NOT_ALLOWED or KEY_NOT_ALLOWED.
        """
        name = protection.mode.value if isinstance(protection, Encryption) else MASKS
        if name not in self.protections:
            raise PolicyError(
                "PROTECTION_NOT_ALLOWED",
                f"the task protects inputs by {name}; protections in [policy] does not name it",
            )
        if isinstance(protection, Encryption):
            key = protection.key_name.rpartition("/encryptionKeys/")[2]
            if not any(fnmatchcase(key, pattern) for pattern in self.encryption_keys):
                raise PolicyError(
                    "KEY_NOT_ALLOWED",
                    f"{protection.key_name} matches none of encryption_keys in [policy]",
                )

    def check_key(self, generation: Generation, trustees: Collection[str]) -> None:
        """Check who holds the shares of an encryption key, and how they came to be.

        Raises:
            PolicyError: KEY_DEALT or TRUSTEE_NOT_ALLOWED.
        """
        if generation is Generation.DEALER and not self.dealt_keys:
            raise PolicyError(
                "KEY_DEALT",
                "a dealer made the shares of the task's key and had all of it for a moment; "
                "dealt_keys in [policy] does not allow that",
            )
        strangers = set(trustees) - self.trustees
        if strangers:
            raise PolicyError(
                "TRUSTEE_NOT_ALLOWED",
                f"shares of the task's key are held by {', '.join(sorted(strangers))}; trustees in "
                "[policy] does not name them: add those whose owners you trust not to conspire",
            )
