"""Configuration of the aggregator; `config.example.toml` explains every key."""

import re
from typing import Annotated, Literal, Self

from finsecure_rpc.config import MANAGED_KEY, RelativePath, Settings
from pydantic import AfterValidator, Field, ValidationInfo, model_validator

_ID = r"^[a-z][a-z0-9-]{0,38}[a-z0-9]$"
_ADDRESS = r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$"

Address = Annotated[str, Field(pattern=_ADDRESS, max_length=255)]


def _database_url(value: str, info: ValidationInfo) -> str:
    """A plain path means an SQLite file, counted from the folder of the configuration."""
    if re.match(r"[a-z0-9+]+://", value):
        return value
    folder = (info.context or {}).get("folder", ".")
    return f"sqlite:///{folder}/{value}" if not value.startswith("/") else f"sqlite:///{value}"


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

    id: str = Field(pattern=_ID)
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


class Configuration(Settings):
    """Everything that the owner of an aggregator decides."""

    federation: str = Field(pattern=_ID)
    identity_dir: RelativePath
    root: RelativePath
    keyservice: Address
    keyservice_enrol: Address
    listen: Address
    database: Annotated[str, Field(min_length=1), AfterValidator(_database_url)]
    blob_dir: RelativePath

    settle_s: float = Field(default=1, ge=0, le=3600)
    reconnect_grace_s: float = Field(default=10, ge=0, le=86400)
    arithmetic: Arithmetic = Arithmetic()
    model_key: str | None = Field(default=None, pattern=MANAGED_KEY)
    recheck_interval_h: float = Field(default=1, gt=0, le=168, allow_inf_nan=False)
    encryption: EncryptionSettings = EncryptionSettings()
    trustees: tuple[TrusteeSettings, ...] = ()
    sums: SumSettings = SumSettings()

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    reflection: bool = False
    shutdown_grace_s: float = Field(default=5, ge=0, le=300)
