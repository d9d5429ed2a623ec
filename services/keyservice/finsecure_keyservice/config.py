"""Configuration of the key service; `config.example.toml` explains every key."""

from datetime import timedelta
from typing import Annotated, Self

from finsecure_rpc.config import Address, DatabaseUrl, LogLevel, RelativePath, Settings
from finsecure_rpc.oidc_settings import OidcSettings
from pydantic import Field, model_validator

from finsecure_keyservice.protection.settings import (
    FileProtection,
    ProtectionSettings,
    SealSettings,
    TokenProtection,
)

_DOMAIN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"

Hours = Annotated[float, Field(gt=0, allow_inf_nan=False)]


_MOST_SEALED_HOURS = 48
"""Most hours of a certificate beside a seal: the service's own lies open, and takes shares."""


class Limits(Settings):
    """How much callers may ask for."""

    enrolment_calls_per_s: float = Field(default=20, gt=0, le=10_000)
    member_calls_per_s: float = Field(default=200, gt=0, le=100_000)


class Configuration(Settings):
    """Everything that the owner of a key service decides."""

    # Room for `<role>.<federation>.` before it in a DNS name of 253 characters.
    domain: str = Field(pattern=_DOMAIN, max_length=200)
    listen: Address
    enrol_listen: Address
    state_dir: RelativePath
    audit_file: RelativePath | None = None
    database: DatabaseUrl

    # Half of the time must be well above the ten minutes by which certificates are backdated.
    certificate_lifetime_h: Hours = Field(default=24, ge=0.5, le=8760)
    revocation_list_lifetime_h: Hours = Field(default=6, le=168)
    api_key_lifetime_h: Hours = Field(default=168, le=8760)
    join_token_lifetime_h: Hours = Field(default=168, le=8760)
    approval_lifetime_h: Hours = Field(default=24, le=720)
    root_lifetime_d: int = Field(default=3650, ge=1, le=7300)
    intermediate_lifetime_d: int = Field(default=1825, ge=1, le=3650)

    log_level: LogLevel = "INFO"
    reflection: bool = False
    shutdown_grace_s: float = Field(default=2, ge=0, le=300)
    limits: Limits = Limits()
    oidc: OidcSettings | None = None
    protection: ProtectionSettings | None = None
    seal: SealSettings | None = None

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.seal is not None and self.seal.shares_dir.resolve().is_relative_to(
            self.state_dir.resolve()
        ):
            raise ValueError("seal.shares_dir is in state_dir, whose backups shares must not be in")
        return self

    @model_validator(mode="after")
    def _short_lived(self) -> Self:
        if self.seal is not None and self.certificate_lifetime_h > _MOST_SEALED_HOURS:
            raise ValueError(
                f"with [seal], certificate_lifetime_h is at most {_MOST_SEALED_HOURS}: whoever "
                "copies the disk can pose as this service to people who unseal, as long as its "
                "certificate lasts"
            )
        return self

    @property
    def protected_by(self) -> FileProtection | TokenProtection:
        """What wraps the keys; where nothing is said, a file in the state folder."""
        return self.protection or FileProtection(
            kind="file", key_file=self.state_dir / "key-encryption.key"
        )

    @property
    def certificate_lifetime(self) -> timedelta:
        """How long members' certificates are valid."""
        return timedelta(hours=self.certificate_lifetime_h)

    @property
    def revocation_list_lifetime(self) -> timedelta:
        """How long a revocation list may be relied on."""
        return timedelta(hours=self.revocation_list_lifetime_h)

    @property
    def approval_lifetime(self) -> timedelta:
        """How long an act that needs two persons waits for the second."""
        return timedelta(hours=self.approval_lifetime_h)

    @property
    def join_token_lifetime(self) -> timedelta:
        """How long a join token may live at most."""
        return timedelta(hours=self.join_token_lifetime_h)

    @property
    def api_key_lifetime(self) -> timedelta:
        """How long an API key waits to be used."""
        return timedelta(hours=self.api_key_lifetime_h)
