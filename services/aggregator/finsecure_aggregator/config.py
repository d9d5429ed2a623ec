"""Configuration of the aggregator; `config.example.toml` explains every key."""

from typing import Literal, Self

from finsecure_rpc.config import Address, Id, ManagedKey, RelativePath, Settings
from finsecure_rpc.enrolled_service import EnrolledServiceSettings
from finsecure_rpc.oidc_settings import OidcSettings
from pydantic import Field, model_validator


class Arithmetic(Settings):
    """Where masked inputs are summed and unmasked."""

    backend: Literal["threads", "processes", "ray"] = "threads"
    workers: int = Field(default=2, ge=1, le=256)
    ray_address: Address | None = None
    silence_s: float = Field(default=120, ge=1, le=3600)

    @model_validator(mode="after")
    def _ray_and_its_address(self) -> Self:
        if (self.backend == "ray") != (self.ray_address is not None):
            raise ValueError('ray_address and backend = "ray" go together')
        return self


class TrusteeSettings(Settings):
    """A trustee of the federation."""

    id: Id
    address: Address


class EncryptionSettings(Settings):
    """How encrypted rounds are handled."""

    workers: int = Field(default=2, ge=1, le=256)
    silence_s: float = Field(default=120, ge=1, le=3600)
    trustee_patience_s: float = Field(default=60, ge=1, le=3600)


class SumSettings(Settings):
    """What audited sums the federation opens."""

    minimum_contributors: int = Field(default=50, ge=2, le=10_000)
    at_once: int = Field(default=20, ge=1, le=1000)


class Configuration(EnrolledServiceSettings):
    """Everything that the owner of an aggregator decides."""

    blob_dir: RelativePath

    operator_listen: Address | None = None
    operator_calls_per_s: float = Field(default=20, gt=0, le=10_000)
    oidc: OidcSettings | None = None

    settle_s: float = Field(default=1, ge=0, le=3600)
    reconnect_grace_s: float = Field(default=10, ge=0, le=86400)
    arithmetic: Arithmetic = Arithmetic()
    model_key: ManagedKey | None = None
    recheck_interval_h: float = Field(default=1, gt=0, le=168, allow_inf_nan=False)
    encryption: EncryptionSettings = EncryptionSettings()
    trustees: tuple[TrusteeSettings, ...] = ()
    sums: SumSettings = SumSettings()

    @model_validator(mode="after")
    def _people_and_their_provider(self) -> Self:
        if (self.operator_listen is None) != (self.oidc is None):
            raise ValueError("operator_listen and [oidc] go together")
        return self
