"""The option `finsecure --token-file FILE …`: a person's token in place of the certificate."""

from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.console import read_token

TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        envvar="FINSECURE_TOKEN_FILE",
        help="File with a token of the OpenID provider, for a call in place of the operator's "
        "certificate; - reads standard input.",
    ),
]

_FILE: ContextVar[Path | None] = ContextVar("finsecure_token_file", default=None)


def use_token_file(file: Path | None) -> None:
    """Remember what was given before the command."""
    _FILE.set(file)


def given_token() -> SecretBytes | None:
    """The token in the file that was named before the command, if one was.

    Raises:
        ConfigurationError: TOKEN_MISSING.
    """
    file = _FILE.get()
    return None if file is None else read_token(file)


def require_certificate() -> None:
    """Refuse a token where the services take none, rather than act as somebody else.

    Raises:
        ConfigurationError: CERTIFICATE_NEEDED.
    """
    if given_token() is not None:
        raise ConfigurationError(
            "CERTIFICATE_NEEDED",
            "this command needs the operator's certificate: run it without --token-file and "
            "FINSECURE_TOKEN_FILE",
        )
