"""Where keys lie: `[protection]` and `[seal]`, and the root's token."""

from pathlib import Path
from typing import Annotated, Literal, Self

from finsecure_crypto.key_seal import MOST_SHARES
from finsecure_rpc.config import RelativePath, Settings
from pydantic import Field, model_validator

_LABEL = r"^[A-Za-z0-9._-]+$"


class FileProtection(Settings):
    """The key-encryption key lies in a file: for development."""

    kind: Literal["file"]
    key_file: RelativePath

    @property
    def secret_file(self) -> Path:
        """What whoever has it opens everything with."""
        return self.key_file


class TokenPlace(Settings):
    """A PKCS#11 token, and the PIN of its user."""

    library: RelativePath
    token_label: str = Field(pattern=_LABEL, max_length=32)
    pin_file: RelativePath


class TokenProtection(TokenPlace):
    """The key-encryption key lies in a PKCS#11 token and never leaves it."""

    kind: Literal["pkcs11"]
    key_label: str = Field(default="finsecure-kek", pattern=_LABEL, max_length=64)

    @property
    def secret_file(self) -> Path:
        """What whoever has it, and the token, opens everything with."""
        return self.pin_file


class RootToken(TokenPlace):
    """The root's key lies in a token of its own: a file that `--root-token` names."""

    key_label: str = Field(default="finsecure-root", pattern=_LABEL, max_length=64)


ProtectionSettings = Annotated[FileProtection | TokenProtection, Field(discriminator="kind")]


class SealSettings(Settings):
    """What opens the protection is sealed, and operators hold shares of the key."""

    threshold: int = Field(default=2, ge=2, le=MOST_SHARES)
    shares: int = Field(default=3, ge=2, le=MOST_SHARES)
    shares_dir: RelativePath

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.threshold > self.shares:
            raise ValueError("threshold is larger than shares")
        return self
