"""The command `finsecure-trustee`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from finsecure_crypto.certificates import Role
from finsecure_crypto.errors import ConfigurationError
from finsecure_rpc import console, logs
from finsecure_rpc.commands import Config, command_line
from finsecure_rpc.config import load
from finsecure_rpc.enrolled_service import check_enrolled_service, enrol_service

from finsecure_keyservice.clock import system_clock
from finsecure_keyservice.protection.opening import create_kek
from finsecure_keyservice.trustee import audit_key_rotation
from finsecure_keyservice.trustee.config import Configuration
from finsecure_keyservice.trustee.local_command import local_command
from finsecure_keyservice.trustee.rewrapping import rotate_key_encryption_key
from finsecure_keyservice.trustee.serving import serve

app = command_line(
    "Holds a share of each decryption key and helps to open sums, never single values."
)


@app.command()
def enrol(
    config: Config,
    api_key_file: Annotated[Path, typer.Option(help="File with the API key; - reads stdin.")],
) -> None:
    """Turn an API key into this trustee's identity; make its wrapping key and database."""
    configuration = load(config, Configuration)
    try:
        create_kek(configuration.protection)
    except ConfigurationError as error:
        if error.code != "ALREADY_INITIALISED":  # by an enrolment that did not end well
            raise
    admission = console.read_api_key(api_key_file)
    trustee = asyncio.run(enrol_service(configuration, admission)).spiffe_id
    with local_command("enrol", configuration, system_clock()) as command:
        key = command.books.database.run_sync(command.log.keys.signer).verifier.serialise()
    typer.echo(f"enrolled as      {trustee}")
    typer.echo(f"audit log's key  {key}   (for `finsecure audit --trustee {trustee.id} --key`)")


@app.command()
def run(config: Config) -> None:
    """Serve until told to stop."""
    configuration = load(config, Configuration)
    logs.configure("trustee", configuration.log_level)
    asyncio.run(serve(configuration))


@app.command()
def health(config: Config) -> None:
    """Ask the running trustee whether it serves; exit code 0 means yes."""
    asyncio.run(check_enrolled_service(load(config, Configuration), Role.TRUSTEE))


@app.command(epilog="Example: finsecure-trustee rotate-kek --config trustee.toml")
def rotate_kek(config: Config) -> None:
    """Make a new wrapping key and wrap all secrets anew; the trustee may be running."""
    version, count = rotate_key_encryption_key(load(config, Configuration), system_clock())
    typer.echo(f"version {version} wraps from now on; {count} secrets were wrapped anew")


@app.command(epilog="Example: finsecure-trustee rotate-audit-key --config trustee.toml")
def rotate_audit_key(config: Config) -> None:
    """Make a new key that signs the log's checkpoints; the trustee may be running.

    The former key announces it in the log and signs nothing more.
    """
    key = audit_key_rotation.rotate_audit_key(load(config, Configuration), system_clock())
    typer.echo(f"audit log's key  {key}   (for `finsecure audit --trustee ID --key`)")


def main() -> None:
    """Run the command line."""
    console.run(app)
