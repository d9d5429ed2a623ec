"""What a service is told about the OpenID provider whose people it lets in."""

from typing import Literal

from pydantic import Field, model_validator

from finsecure_rpc.config import RelativePath, Settings

Algorithm = Literal["ES256", "ES384", "Ed25519", "EdDSA", "PS256", "RS256"]


class OidcSettings(Settings):
    """Section `[oidc]`: whose tokens are taken, and what their claims mean.

    No claim makes a security officer: who administers the provider could make two of them, and one
    person could be one by certificate and another by token, and agree with itself.
    """

    issuer: str = Field(min_length=1, max_length=512)
    audience: str = Field(min_length=1, max_length=512)
    jwks_file: RelativePath | None = None
    jwks_url: str | None = Field(default=None, pattern=r"^https://", max_length=1024)
    algorithms: tuple[Algorithm, ...] = Field(default=("ES256",), min_length=1)
    role_claim: str = Field(default="roles", min_length=1, max_length=128)
    roles: dict[str, Literal["viewer", "operator"]] = Field(min_length=1)
    leeway_s: float = Field(default=60, ge=0, le=600)
    longest_life_s: float = Field(default=3600, gt=0, le=86_400)

    @model_validator(mode="after")
    def _one_source(self) -> "OidcSettings":
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("name either jwks_file or jwks_url")
        return self
