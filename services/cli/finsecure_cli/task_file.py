"""A task as its owner writes it down: a strict TOML file.

The file mirrors `TaskSpec` of the wire contract, with units in the names. Types and unknown keys
are checked here; bounds stand in the contract and are checked with it (`convert.task_spec`).
"""

from typing import Annotated, Literal, Self

from finsecure_rpc.config import Id, Settings
from pydantic import Field, model_validator

Seconds = Annotated[float, Field(gt=0, le=10_000_000)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**32 - 1)]


class ModelSection(Settings):
    """The model's code, `module:function`; each client has to have it."""

    factory: str


class NumericColumn(Settings):
    """A column of numbers within public bounds."""

    column: str
    minimum: Number
    maximum: Number
    logarithmic: bool = False

    @property
    def inputs(self) -> int:
        """How many inputs of the model it becomes."""
        return 1


class CategoricalColumn(Settings):
    """A column with one of a list of values."""

    column: str
    values: tuple[str, ...]

    @property
    def inputs(self) -> int:
        """How many inputs of the model it becomes."""
        return len(self.values)


class FeaturesSection(Settings):
    """The columns of every client's table."""

    label: str
    positive_value: str
    standardise: bool = True
    columns: tuple[NumericColumn | CategoricalColumn, ...]


class TrainingSection(Settings):
    """The local training of a round."""

    epochs: Count = 1
    batch_size: Count = 64
    learning_rate: Number
    weight_decay: Number = 0.0
    positive_weight: Number = 1.0
    proximal: Number = 0.0


class CohortSection(Settings):
    """Who takes part in a round."""

    minimum: Count
    maximum: Count
    weight_cap: Count


class SparseGraphSection(Settings):
    """What the sparse masking graph must withstand."""

    corrupt_fraction: Number
    dropout_fraction: Number


class SecuritySection(Settings):
    """How inputs are protected."""

    protection: Literal["masks", "paillier", "bgv", "ckks"] = "masks"
    profile: Literal["active", "semi_honest"] = "active"
    sparse_graph: SparseGraphSection | None = None
    encryption_key: Id | None = None

    @property
    def masked(self) -> bool:
        """Whether inputs are masked, rather than encrypted."""
        return self.protection == "masks"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.masked and self.encryption_key is not None:
            raise ValueError("masks have no encryption_key; leave it out, or set protection")
        if not self.masked and self.encryption_key is None:
            raise ValueError(f"{self.protection} needs an encryption_key: finsecure key list")
        if not self.masked and self.model_fields_set & {"profile", "sparse_graph"}:
            raise ValueError(f"{self.protection} has no profile and no sparse_graph")
        return self


class EncodingSection(Settings):
    """How an update becomes integers."""

    value_bits: Count = 16
    clip_norm: Number
    clip_value: Number
    score_bins: Count = 0


class ServerOptimizerSection(Settings):
    """How the mean update is applied."""

    kind: Literal["average", "momentum", "adam"] = "average"
    learning_rate: Number = 1.0
    beta1: Number = 0.0
    beta2: Number = 0.0
    tau: Number = 0.0


class ConvergenceSection(Settings):
    """When training has settled."""

    patience: Count
    minimum_decrease: Number


class DeadlinesSection(Settings):
    """How long each phase of a round waits for its slowest client."""

    advertise_keys_s: Seconds = 30.0
    share_keys_s: Seconds = 30.0
    submit_input_s: Seconds = 600.0
    confirm_survivors_s: Seconds = 30.0
    reveal_shares_s: Seconds = 30.0
    opening_s: Seconds = 600.0


class TaskFile(Settings):
    """A whole task file."""

    name: Id
    rounds: Count
    interval_s: Seconds | None = None
    model: ModelSection
    features: FeaturesSection
    training: TrainingSection
    cohort: CohortSection
    security: SecuritySection = SecuritySection()
    encoding: EncodingSection
    server_optimizer: ServerOptimizerSection = ServerOptimizerSection()
    convergence: ConvergenceSection | None = None
    deadlines: DeadlinesSection = DeadlinesSection()

    @property
    def inputs(self) -> int:
        """How many inputs the model has: one per number, one per value of a category."""
        return sum(column.inputs for column in self.features.columns)
