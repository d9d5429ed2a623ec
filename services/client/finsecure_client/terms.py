"""What a task asks of a client, as plain frozen types.

They mirror `TaskSpec` of the wire contract, so that policy, data and trainers do not depend on
generated code. `convert.py` makes them; protobuf constraints hold for every value here.
"""

from dataclasses import dataclass

from finsecure_crypto.federation import Terms


@dataclass(frozen=True)
class NumericFeature:
    """A number within public bounds; what lies outside is moved to the bound."""

    column: str
    minimum: float
    maximum: float
    logarithmic: bool = False


@dataclass(frozen=True)
class CategoricalFeature:
    """One 0/1 input per value; an unknown value is all zeros."""

    column: str
    values: tuple[str, ...]


Feature = NumericFeature | CategoricalFeature


@dataclass(frozen=True)
class FeatureSchema:
    """The columns of every client's table, in the order in which the model sees them."""

    features: tuple[Feature, ...]
    label: str
    positive_value: str
    standardise: bool = False

    @property
    def width(self) -> int:
        """Number of model inputs: one per number, one per value of a category."""
        return sum(
            len(feature.values) if isinstance(feature, CategoricalFeature) else 1
            for feature in self.features
        )

    @property
    def numeric_inputs(self) -> tuple[int, ...]:
        """Positions of the numeric features among the model inputs."""
        positions, at = [], 0
        for feature in self.features:
            if isinstance(feature, NumericFeature):
                positions.append(at)
                at += 1
            else:
                at += len(feature.values)
        return tuple(positions)


@dataclass(frozen=True)
class TrainingTerms:
    """The local training that every client does in a round."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    positive_weight: float = 1.0
    proximal: float = 0.0


@dataclass(frozen=True)
class Task:
    """Everything that the members of a federation agree on for one task.

    Attributes:
        name: resource name `federations/{federation}/tasks/{task}`.
        spec: deterministic serialisation of the received TaskSpec; binds a round to these terms.
        factory: name of the model's code, `module:function`.
        schema: the columns of the data.
        training: the local training.
        terms: what shapes a round and its vector.
        rounds: training rounds, at most.
        maximum_cohort: most clients in a round.
    """

    name: str
    spec: bytes
    factory: str
    schema: FeatureSchema
    training: TrainingTerms
    terms: Terms
    rounds: int
    maximum_cohort: int


@dataclass(frozen=True)
class TaskStatus:
    """A task and where it stands.

    Attributes:
        task: its terms.
        open: whether rounds may still come.
        state: name of the state, in lower case.
        detail: what the state means in words.
        completed_rounds: training rounds done.
        latest_model: resource name of the newest model version; empty before the first.
    """

    task: Task
    open: bool
    state: str
    detail: str
    completed_rounds: int
    latest_model: str
