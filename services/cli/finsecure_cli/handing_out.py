"""Secrets that are shown once: printed, or written into a new file for its owner alone."""

import os
from dataclasses import dataclass
from pathlib import Path

import typer
from finsecure_crypto.errors import ConfigurationError, StateError

from finsecure_cli.convert import Document
from finsecure_cli.output import print_json


@dataclass(frozen=True)
class Secret:
    """A kind of secret that is handed out.

    Attributes:
        field: its name in JSON.
        called: its name for people.
        lost: what to do when it was shown before.
    """

    field: str
    called: str
    lost: str


API_KEY = Secret("api_key", "API key", "issue a new one with `finsecure member key`")
JOIN_TOKEN = Secret("join_token", "join token", "make a new one with `finsecure member invite`")


def require_new(file: Path | None, secret: Secret) -> None:
    """Refuse a file that exists, before there is anything to write into it.

    Raises:
        ConfigurationError: FILE_EXISTS.
    """
    if file is not None and file.exists():
        raise ConfigurationError(
            "FILE_EXISTS", f"{file} exists; name a new file for the {secret.called}"
        )


def hand_out(text: str, secret: Secret, file: Path | None, made: Document, *, json: bool) -> None:
    """Print a secret, or write it into a new file, mode 0600.

    Raises:
        StateError: API_KEY_SHOWN_BEFORE, JOIN_TOKEN_SHOWN_BEFORE.
    """
    if not text:
        raise StateError(
            f"{secret.field.upper()}_SHOWN_BEFORE",
            f"the {secret.called} was shown before; {secret.lost}",
        )
    if file is not None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"{text}\n")
    if json:
        shown = {f"{secret.field}_file": str(file)} if file else {secret.field: text}
        print_json({**made, **shown})
    elif file is not None:
        typer.echo(f"{made['name']}: the {secret.called} is in {file}")
    else:
        typer.echo(text)
