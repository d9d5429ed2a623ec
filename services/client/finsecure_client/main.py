"""The command `finsecure-client`."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from finsecure_rpc import console, logs
from finsecure_rpc.admission import read_admission
from finsecure_rpc.commands import ApiKeyFile, Config, JoinTokenFile, MemberId, command_line
from rich.console import Console

from finsecure_client import config as configuration
from finsecure_client import daemon, sdk
from finsecure_client.report import Report
from finsecure_client.score import evaluate as evaluate_model
from finsecure_client.sums.values_file import read_values

app = command_line("A bank's side of FinSecure: trains at home, lets only protected values leave.")
Round = Annotated[str, typer.Option("--round", help="Only what left in this round.")]
Task = Annotated[str, typer.Option(help="Task id.")]
Version = Annotated[int | None, typer.Option(help="Model version; the newest by default.")]
SumName = Annotated[str, typer.Option("--sum", help="Id of the audited sum.")]
Values = Annotated[
    Path,
    typer.Argument(help="JSON object, or CSV with the columns label and value; integers."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(
    epilog="Example: finsecure-client enrol --config client.toml --join-token-file t --id branch-7"
)
def enrol(
    config: Config,
    api_key_file: ApiKeyFile = None,
    join_token_file: JoinTokenFile = None,
    member_id: MemberId = None,
) -> None:
    """Turn an API key, or a join token and an id, into this client's certificates."""
    settings = configuration.read(config)
    logs.configure("client", settings.client.log_level)
    admission = read_admission(api_key_file, join_token_file, member_id)
    identity = asyncio.run(sdk.enrol(settings, admission))
    print(f"enrolled as {identity}")


@app.command()
def run(config: Config) -> None:
    """Take part in the tasks that the policy allows, until SIGTERM."""
    settings = configuration.read(config)
    logs.configure("client", settings.client.log_level)
    asyncio.run(daemon.run(settings))


@app.command("egress")
def show_egress(config: Config, round_name: Round = "", as_json: Json = False) -> None:
    """Show what has left this client, summed up by kind."""
    report = Report.read(configuration.read(config).egress.manifest, round_name)
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        Console().print(report.table())


@app.command()
def evaluate(config: Config, task: Task, version: Version = None, as_json: Json = False) -> None:
    """Measure a global model on this client's own validation rows; nothing of it leaves."""
    settings = configuration.read(config)
    logs.configure("client", settings.client.log_level)
    score = asdict(asyncio.run(evaluate_model(settings, task, version)))
    print(json.dumps(score) if as_json else "\n".join(f"{k}: {v}" for k, v in score.items()))


@app.command()
def contribute(config: Config, name: SumName, file: Values) -> None:
    """Contribute to an audited sum, encrypted; the same again is harmless."""
    settings = configuration.read(config)
    logs.configure("client", settings.client.log_level)
    values = read_values(file)

    async def act() -> str:
        async with sdk.connect(settings) as client:
            return (await client.sums.contribute(name, values)).name

    print(f"contributed {len(values)} values to {asyncio.run(act())}")


def main() -> None:
    """Run the command line."""
    console.run(app)
