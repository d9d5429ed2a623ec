"""The command `finsecure-aggregator`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from finsecure_crypto.certificates import Role
from finsecure_rpc import console, logs
from finsecure_rpc.admission import API_KEY_HELP, ID_HELP, JOIN_HELP, read_admission
from finsecure_rpc.config import load
from finsecure_rpc.enrolment import enrol as come_in
from finsecure_rpc.member_service import check_member_service

from finsecure_aggregator.config import Configuration
from finsecure_aggregator.serving import serve

app = typer.Typer(
    help="Runs the rounds of a federation and keeps its models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[Path, typer.Option(help="Configuration file (TOML).")]


@app.command(epilog="Example: finsecure-aggregator enrol --config a.toml --api-key-file key")
def enrol(
    config: Config,
    api_key_file: Annotated[Path | None, typer.Option(help=API_KEY_HELP)] = None,
    join_token_file: Annotated[Path | None, typer.Option(help=JOIN_HELP)] = None,
    member_id: Annotated[str | None, typer.Option("--id", help=ID_HELP)] = None,
) -> None:
    """Turn an API key, or a join token and an id, into this aggregator's identity."""
    configuration = load(config, Configuration)
    identity = asyncio.run(
        come_in(
            configuration.keyservice_enrol,
            configuration.root.read_bytes(),
            read_admission(api_key_file, join_token_file, member_id),
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


@app.command()
def health(config: Config) -> None:
    """Ask the running aggregator whether it serves; exit code 0 means yes."""
    asyncio.run(check_member_service(load(config, Configuration), Role.AGGREGATOR))


def main() -> None:
    """Run the command line."""
    console.run(app)


if __name__ == "__main__":
    main()
