"""`finsecure operator`: the operator's own identity."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from finsecure_rpc.console import read_api_key

from finsecure_cli.commands.options import ConfigOption
from finsecure_cli.enrolment import enrol_operator
from finsecure_cli.output import JsonOption, print_json
from finsecure_cli.settings import DEFAULT_FILE, load_operator

app = typer.Typer(no_args_is_help=True, help="Get the operator's own identity.")


@app.callback()
def _operator() -> None:
    """Get the operator's own identity."""


@app.command(epilog="Example: finsecure operator enrol --api-key-file operator.key")
def enrol(
    api_key_file: Annotated[
        Path, typer.Option(help="File that holds the API key; - reads standard input.")
    ],
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Spend an API key: make keys here, have them certified, store both."""
    settings = load_operator(config)
    identity = asyncio.run(enrol_operator(settings, read_api_key(api_key_file)))
    if json:
        print_json(
            {
                "spiffe_id": str(identity.spiffe_id),
                "not_after": identity.certified.not_after.isoformat(),
            }
        )
    else:
        typer.echo(f"enrolled as {identity.spiffe_id} in {settings.identity_dir}")
