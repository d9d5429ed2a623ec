"""The client's configuration file."""

from pathlib import Path
from typing import Annotated, Literal

from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.secagg.parameters import ClientPolicy, Profile
from finsecure_rpc.config import (
    Address,
    Id,
    IdPattern,
    LogLevel,
    ManagedKey,
    MemberSettings,
    RelativePath,
    Settings,
    load,
)
from pydantic import Field

from finsecure_client.policy import Policy
from finsecure_client.sums.policy import SumPolicy
from finsecure_client.trainer import Trainer

Factory = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$")]


class ClientSettings(MemberSettings):
    """Who this client is and where the servers are."""

    aggregator: Address
    state_dir: RelativePath
    poll_interval_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    log_level: LogLevel = "INFO"


class DataSettings(Settings):
    """The party's table."""

    path: RelativePath
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    minimum_examples: Annotated[int, Field(ge=2)] = 50
    single_class: bool = False


class TrainerSettings(Settings):
    """How the party trains."""

    kind: Literal["torch"] = "torch"
    models: Annotated[tuple[Factory, ...], Field(min_length=1)]
    python_path: tuple[RelativePath, ...] = ()
    optimizer: Literal["adamw", "sgd"] = "adamw"
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None


class PolicySettings(Settings):
    """What the party takes part in at all."""

    model_key: ManagedKey | None = None

    tasks: Annotated[tuple[IdPattern, ...], Field(min_length=1)]
    minimum_cohort: Annotated[int, Field(ge=2)] = 3
    minimum_threshold: Annotated[int, Field(ge=2)] = 3
    minimum_profile: Profile = Profile.ACTIVE
    protections: Annotated[
        tuple[Literal["masks", "paillier", "bgv", "ckks"], ...], Field(min_length=1)
    ] = ("masks",)
    encryption_keys: tuple[IdPattern, ...] = ("*",)
    trustees: tuple[Id, ...] = ()
    dealt_keys: bool = False
    maximum_rounds: Annotated[int, Field(ge=1)] = 1000
    maximum_attempts: Annotated[int, Field(ge=1)] = 20
    maximum_epochs: Annotated[int, Field(ge=1)] = 20
    maximum_parameters: Annotated[int, Field(ge=1)] = 100_000_000
    maximum_inputs: Annotated[int, Field(ge=1)] = 10_000


class SumSettings(Settings):
    """What audited sums the party contributes to."""

    sums: tuple[IdPattern, ...] = ()
    minimum_contributors: Annotated[int, Field(ge=2)] = 50
    maximum_value: Annotated[int, Field(ge=1, lt=2**64)] = 10**12
    encryption_keys: tuple[IdPattern, ...] = ("*",)


class EgressSettings(Settings):
    """Where it is written down what leaves."""

    manifest: RelativePath
    rotate_mib: Annotated[int, Field(ge=1, le=65536)] = 64


class ClientConfig(Settings):
    """The whole file; a program that brings its own trainer leaves out data and trainer."""

    client: ClientSettings
    policy: PolicySettings
    egress: EgressSettings
    data: DataSettings | None = None
    trainer: TrainerSettings | None = None
    sums: SumSettings = SumSettings()

    def make_policy(self) -> Policy:
        """Build the policy that every task and round is checked against."""
        pinned = self.policy
        return Policy(
            federation=self.client.federation,
            tasks=pinned.tasks,
            security=ClientPolicy(
                minimum_cohort=pinned.minimum_cohort,
                minimum_threshold=pinned.minimum_threshold,
                minimum_profile=pinned.minimum_profile,
            ),
            protections=frozenset(pinned.protections),
            encryption_keys=pinned.encryption_keys,
            trustees=frozenset(pinned.trustees),
            dealt_keys=pinned.dealt_keys,
            models=None if self.trainer is None else frozenset(self.trainer.models),
            maximum_rounds=pinned.maximum_rounds,
            maximum_attempts=pinned.maximum_attempts,
            maximum_epochs=pinned.maximum_epochs,
            maximum_parameters=pinned.maximum_parameters,
            maximum_inputs=pinned.maximum_inputs,
        )

    def make_sum_policy(self) -> SumPolicy:
        """Build the policy that every audited sum is checked against."""
        return SumPolicy(self.client.federation, **self.sums.model_dump())

    def make_trainer(self) -> Trainer:
        """Build the configured trainer; only this imports torch.

        Raises:
            ConfigurationError: TRAINER_NOT_CONFIGURED, EXTRA_MISSING.
        """
        if self.data is None or self.trainer is None:
            raise ConfigurationError(
                "TRAINER_NOT_CONFIGURED",
                "the configuration lacks [data] or [trainer]; add them as in config.example.toml",
            )
        try:
            from finsecure_client.data import DataSource
            from finsecure_client.torch_trainer import TorchTrainer
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "EXTRA_MISSING",
                f"the torch trainer needs {error.name}: pip install 'finsecure[torch]'",
            ) from error
        return TorchTrainer(
            DataSource(**self.data.model_dump()),
            frozenset(self.trainer.models),
            python_path=self.trainer.python_path,
            optimizer=self.trainer.optimizer,
            seed=self.trainer.seed,
        )


def read(path: Path) -> ClientConfig:
    """Read the configuration file.

    Raises:
        ConfigurationError: CONFIG_MISSING or CONFIG_INVALID.
    """
    return load(path, ClientConfig)
