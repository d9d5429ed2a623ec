"""Configuration of the protection: `[protection]` of the key service and of the trustee."""

from typing import Annotated, Literal

from finsecure_rpc.config import RelativePath, Settings
from pydantic import Field

_LABEL = r"^[A-Za-z0-9._-]+$"


class FileProtection(Settings):
    """The key-encryption key lies in a file: for development."""

    kind: Literal["file"]
    key_file: RelativePath


class TokenProtection(Settings):
    """The key-encryption key lies in a PKCS#11 token and never leaves it."""

    kind: Literal["pkcs11"]
    library: RelativePath
    token_label: str = Field(pattern=_LABEL, max_length=32)
    pin_file: RelativePath
    key_label: str = Field(default="finsecure-kek", pattern=_LABEL, max_length=64)


ProtectionSettings = Annotated[FileProtection | TokenProtection, Field(discriminator="kind")]
