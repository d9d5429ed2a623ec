"""The command `finsecure-aggregator`."""

import asyncio

import typer
from finsecure_crypto.certificates import Role
from finsecure_rpc import console, logs
from finsecure_rpc.admission import read_admission
from finsecure_rpc.commands import ApiKeyFile, Config, JoinTokenFile, MemberId, command_line
from finsecure_rpc.config import load
from finsecure_rpc.enrolled_service import check_enrolled_service, enrol_service

from finsecure_aggregator.config import Configuration
from finsecure_aggregator.serving import serve

app = command_line("Runs the rounds of a federation and keeps its models.")


@app.command(epilog="Example: finsecure-aggregator enrol --config a.toml --api-key-file key")
def enrol(
    config: Config,
    api_key_file: ApiKeyFile = None,
    join_token_file: JoinTokenFile = None,
    member_id: MemberId = None,
) -> None:
    """Turn an API key, or a join token and an id, into this aggregator's identity."""
    configuration = load(config, Configuration)
    admission = read_admission(api_key_file, join_token_file, member_id)
    identity = asyncio.run(enrol_service(configuration, admission))
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
    asyncio.run(check_enrolled_service(load(config, Configuration), Role.AGGREGATOR))


def main() -> None:
    """Run the command line."""
    console.run(app)


if __name__ == "__main__":
    main()
