"""What lets a newcomer in: an API key, or a join token with the id that its holder wants."""

from dataclasses import dataclass
from pathlib import Path

from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.secret import SecretBytes

from finsecure_rpc.console import read_api_key


@dataclass(frozen=True)
class JoinAs:
    """A join token, with the id that its holder wants.

    Attributes:
        token: `fsj_…`, without surrounding white space.
        member_id: begins with what the token's maker said.
    """

    token: SecretBytes
    member_id: str


Admission = SecretBytes | JoinAs
"""An API key `fs_…`, without surrounding white space, or a join token."""


def read_admission(
    api_key_file: Path | None, join_token_file: Path | None, member_id: str | None
) -> Admission:
    """Read what a command was given to come in by.

    Raises:
        ConfigurationError: ADMISSION_UNCLEAR unless it is one of the two, the token with an id;
            API_KEY_MISSING.
    """
    if api_key_file is not None and join_token_file is None and member_id is None:
        return read_api_key(api_key_file)
    if api_key_file is None and join_token_file is not None and member_id:
        return JoinAs(read_api_key(join_token_file), member_id)
    raise ConfigurationError(
        "ADMISSION_UNCLEAR",
        "give either --api-key-file, or --join-token-file together with --id",
    )
