"""Command lines of the services: options that all of them have."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option(help="Configuration file (TOML).", show_default=False)]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option("--api-key-file", help="File with the API key; - reads stdin."),
]
JoinTokenFile = Annotated[
    Path | None,
    typer.Option(
        "--join-token-file",
        help="File with a join token, in place of an API key; - reads stdin.",
    ),
]
MemberId = Annotated[
    str | None,
    typer.Option("--id", help="Id that this member wants; with a join token only."),
]


def command_line(purpose: str) -> typer.Typer:
    """Make the command line of a service, for its commands to be added."""
    return typer.Typer(
        help=purpose,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
