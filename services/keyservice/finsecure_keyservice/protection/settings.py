"""Where keys lie: `[protection]` of the key service and of the trustee, and the root's token."""

from typing import Annotated, Literal

from finsecure_rpc.config import RelativePath, Settings
from pydantic import Field

_LABEL = r"^[A-Za-z0-9._-]+$"


class FileProtection(Settings):
    """The key-encryption key lies in a file: for development."""

    kind: Literal["file"]
    key_file: RelativePath


class TokenPlace(Settings):
    """A PKCS#11 token, and the PIN of its user."""

    library: RelativePath
    token_label: str = Field(pattern=_LABEL, max_length=32)
    pin_file: RelativePath


class TokenProtection(TokenPlace):
    """The key-encryption key lies in a PKCS#11 token and never leaves it."""

    kind: Literal["pkcs11"]
    key_label: str = Field(default="finsecure-kek", pattern=_LABEL, max_length=64)


class RootToken(TokenPlace):
    """The root's key lies in a token of its own: a file that `--root-token` names."""

    key_label: str = Field(default="finsecure-root", pattern=_LABEL, max_length=64)


ProtectionSettings = Annotated[FileProtection | TokenProtection, Field(discriminator="kind")]
