"""What this client has contributed to audited sums; kept on disk before it leaves.

A contribution whose answer was lost is sent again as the same ciphertexts, and a sum that comes
back under its old name with another nonce or other terms gets nothing. The values are there too,
for the owner to look up; the files are for the owner's eyes alone.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from finsecure_crypto.errors import ConfigurationError, InternalError, PolicyError
from finsecure_rpc.durable import write_file
from pydantic import Base64Bytes, BaseModel, ConfigDict, ValidationError


class _Page(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    context: str
    values: dict[str, int]
    ciphertexts: Base64Bytes


@dataclass(frozen=True)
class Kept:
    """A contribution as it was made.

    Attributes:
        context: digest of the sum that it was made for, 32 bytes.
        values: by label, in clear.
        ciphertexts: the same, encrypted.
    """

    context: bytes
    values: Mapping[str, int] = field(repr=False)
    ciphertexts: bytes = field(repr=False)


class Book:
    """One small file for each sum.

    Args:
        folder: where they are kept; made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, name: str, context: bytes, values: Mapping[str, int]) -> Kept | None:
        """Give what was contributed to a sum before; None where there is nothing yet.

        Raises:
            PolicyError: SUM_CHANGED or CONTRIBUTION_MADE.
            ConfigurationError: BOOK_INVALID, where the file cannot be read.
        """
        path = self._path(name)
        try:
            page = _Page.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise ConfigurationError(
                "BOOK_INVALID",
                f"{path}, which says what was contributed to {name}, cannot be read; restore it "
                "from a backup",
            ) from error
        if page.context != context.hex():
            raise PolicyError(
                "SUM_CHANGED",
                f"{name} is not the sum of that name that this client has contributed to; a new "
                f"sum needs a new name. If its members agreed on the change, remove {path}",
            )
        if page.values != values:
            raise PolicyError(
                "CONTRIBUTION_MADE",
                f"this client has contributed other values to {name}, and a contribution is "
                f"never changed; {path} has them",
            )
        return Kept(context, page.values, page.ciphertexts)

    def keep(self, name: str, contribution: Kept) -> None:
        """Write a contribution down; to be called before it leaves.

        Raises:
            InternalError: BOOK_NOT_WRITTEN; nothing may leave then.
        """
        page = {
            "context": contribution.context.hex(),
            "values": dict(contribution.values),
            "ciphertexts": base64.b64encode(contribution.ciphertexts).decode(),
        }
        path = self._path(name)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_file(path, json.dumps(page).encode())
        except OSError as error:
            raise InternalError(
                "BOOK_NOT_WRITTEN",
                f"{path} cannot be written ({error.strerror}); free space or mend the "
                "permissions. Nothing leaves until then",
            ) from error

    def _path(self, name: str) -> Path:
        return self._folder / f"{name.rpartition('/')[2]}.json"
