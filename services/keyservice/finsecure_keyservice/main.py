"""The command `finsecure-keyservice`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from finsecure_rpc import console, logs
from finsecure_rpc.config import load

from finsecure_keyservice.clock import system_clock
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.founding import found, renew_operator_key
from finsecure_keyservice.health import check
from finsecure_keyservice.serving import serve

app = typer.Typer(
    help="Who belongs to a federation, and the certificates that prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[Path, typer.Option(help="Configuration file (TOML).")]


@app.command()
def init(
    config: Config,
    operator: Annotated[str, typer.Option(help="Id of the first operator.")] = "operator",
    federation: Annotated[str | None, typer.Option(help="Id of a first federation.")] = None,
    root_key: Annotated[Path | None, typer.Option(help="File for the root's private key.")] = None,
) -> None:
    """Make the authorities, the database and the first operator. Overwrites nothing."""
    made = found(load(config, Configuration), operator, federation, root_key, system_clock())
    typer.echo(f"root certificate    {made.root}   (give it to every member)")
    typer.echo(f"its SHA-256         {made.fingerprint}")
    typer.echo(f"root private key    {made.root_key}   (move it offline now)")
    typer.echo(f"operator's API key  {made.api_key}   (good for one enrolment; then delete it)")


@app.command()
def run(config: Config) -> None:
    """Serve until told to stop."""
    configuration = load(config, Configuration)
    logs.configure("keyservice", configuration.log_level)
    asyncio.run(serve(configuration))


@app.command()
def health(config: Config) -> None:
    """Ask the running service whether it serves; exit code 0 means yes."""
    asyncio.run(check(load(config, Configuration)))


@app.command()
def operator_key(
    config: Config,
    operator: Annotated[str, typer.Option(help="Id of the operator; may be new.")],
    output: Annotated[Path, typer.Option(help="New file for the API key.")],
) -> None:
    """Write a new API key for an operator, for who is locked out; the service may be running."""
    renew_operator_key(load(config, Configuration), operator, output, system_clock())
    typer.echo(f"operator's API key  {output}   (good for one enrolment; then delete it)")


def main() -> None:
    """Run the command line."""
    console.run(app)
