"""The command `finsecure-aggregator`."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from finsecure_crypto import errors
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc import logs
from finsecure_rpc.config import load
from finsecure_rpc.enrolment import enrol as spend_api_key

from finsecure_aggregator.config import Configuration
from finsecure_aggregator.serving import serve

app = typer.Typer(
    help="Runs the rounds of a federation and keeps its models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[Path, typer.Option(help="Configuration file (TOML).")]
_EXIT_CODES: dict[type[errors.FinSecureError], int] = {
    errors.ConfigurationError: 2,
    errors.InvalidArgumentError: 2,
    errors.AuthenticationError: 3,
    errors.PermissionDeniedError: 3,
    errors.NotFoundError: 4,
    errors.UnavailableError: 5,
}


@app.command()
def enrol(
    config: Config,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the API key; standard input if left out.")
    ] = None,
) -> None:
    """Turn an API key into this aggregator's identity."""
    configuration = load(config, Configuration)
    key = api_key_file.read_bytes() if api_key_file else sys.stdin.buffer.read(512)
    identity = asyncio.run(
        spend_api_key(
            configuration.keyservice_enrol,
            configuration.root.read_bytes(),
            SecretBytes(key.strip()),
            configuration.identity_dir,
        )
    )
    typer.echo(f"enrolled as {identity.spiffe_id}")


@app.command()
def run(config: Config) -> None:
    """Serve until told to stop."""
    configuration = load(config, Configuration)
    logs.configure("aggregator", configuration.log_level)
    asyncio.run(serve(configuration))


def main() -> None:
    """Run the command line: one line of error for people, and an exit code for machines."""
    try:
        app()
    except errors.FinSecureError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(_EXIT_CODES.get(type(error), 1)) from None
    except OSError as error:
        typer.echo(f"error: {error}; check the path and its rights [FILE_ERROR]", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
