"""`finsecure client`: the client daemon's own commands, run in its place."""

import os
from typing import NoReturn

import typer

from finsecure_cli.processes import command_path

app = typer.Typer(
    no_args_is_help=True,
    help="Run the client daemon's own commands (finsecure-client), options passed through.",
)
# The options, --help included, are those of finsecure-client, so none are parsed here.
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=PASS_THROUGH)
def enrol(context: typer.Context) -> None:
    """Spend an API key and get the client's certificates; see `finsecure client enrol --help`."""
    become("enrol", context.args)


@app.command(context_settings=PASS_THROUGH)
def run(context: typer.Context) -> None:
    """Run the daemon that trains and takes part; see `finsecure client run --help`."""
    become("run", context.args)


@app.command(context_settings=PASS_THROUGH)
def evaluate(context: typer.Context) -> None:
    """Measure a global model on the client's own rows; see `finsecure client evaluate --help`."""
    become("evaluate", context.args)


@app.command(context_settings=PASS_THROUGH)
def egress(context: typer.Context) -> None:
    """Show what has left this client; see `finsecure client egress --help`."""
    become("egress", context.args)


def become(command: str, arguments: list[str]) -> NoReturn:
    """Turn into `finsecure-client`."""
    path = str(command_path("finsecure-client"))
    os.execv(path, [path, command, *arguments])  # noqa: S606 - no shell, on purpose
