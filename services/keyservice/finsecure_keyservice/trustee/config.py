"""Configuration of a trustee; `config.example.toml` explains every key."""

from finsecure_rpc.config import IdPattern, RelativePath, Settings
from finsecure_rpc.enrolled_service import EnrolledServiceSettings
from pydantic import Field

from finsecure_keyservice.protection.settings import ProtectionSettings


class Openings(Settings):
    """What this trustee helps to open; nobody else sets it."""

    minimum_round_cohort: int = Field(default=3, ge=2, le=100_000)
    minimum_sum_cohort: int = Field(default=50, ge=2, le=100_000)
    decryptions_per_key: int = Field(default=1000, ge=1, le=1_000_000)
    maximum_input_mib: int = Field(default=256, ge=1, le=1024)
    contributors: tuple[IdPattern, ...] = Field(default=("*",), min_length=1)
    at_once: int = Field(default=2, ge=1, le=64)
    partial_timeout_s: float = Field(default=1800, ge=1, le=3600)


class Erasure(Settings):
    """When the shares of destroyed keys are erased."""

    grace_d: float = Field(default=7, ge=0, le=365, allow_inf_nan=False)
    interval_s: float = Field(default=3600, ge=1, le=86_400)


class Configuration(EnrolledServiceSettings):
    """Everything that the owner of a trustee decides."""

    audit_file: RelativePath | None = None
    protection: ProtectionSettings

    dealt_keys: bool = False
    openings: Openings = Openings()
    erasure: Erasure = Erasure()
