"""`finsecure init` and `finsecure up`: a federation's configuration, and all of it running."""

import asyncio
import re
import signal
from pathlib import Path
from typing import Annotated

import typer
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_rpc.resource_names import ID

from finsecure_cli.deployment import Deployment, bring_up, initialise
from finsecure_cli.output import JsonOption, print_json
from finsecure_cli.supervisor import Supervisor
from finsecure_cli.templates import Plan

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the federation.")]


def init(
    folder: FolderArgument,
    federation: Annotated[str, typer.Option(help="Id of the federation.")],
    clients: Annotated[str, typer.Option(help="Ids of the clients, with commas between.")],
    domain: Annotated[
        str, typer.Option(help="Domain that identities end in.")
    ] = "finsecure.internal",
    host: Annotated[str, typer.Option(help="Host name or address of the services.")] = "127.0.0.1",
    keyservice_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the key service.")
    ] = 7443,
    enrol_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the key service for enrolment.")
    ] = 7444,
    aggregator_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the aggregator.")
    ] = 7543,
    trustees: Annotated[
        int, typer.Option(min=0, max=16, help="Trustees that hold shares of encryption keys; 3.")
    ] = 0,
    trustee_port: Annotated[
        int, typer.Option(min=1, max=65520, help="Port of the first trustee; the next ones follow.")
    ] = 7643,
    json: JsonOption = False,
) -> None:
    """Write the configuration files of a federation: services, operator, clients, a task.

    All of them are commented and meant to be edited. Hand each party its file of clients/; run the
    services here with `finsecure up`. Nothing is ever overwritten.
    """
    chosen = tuple(part.strip() for part in clients.split(","))
    for identifier in (federation, *chosen):
        if not re.fullmatch(ID, identifier):
            raise InvalidArgumentError(
                "ID_MALFORMED",
                f"{identifier!r} is no id: use 2 to 40 lower-case letters, digits and hyphens, "
                "beginning with a letter",
            )
    if len(set(chosen)) != len(chosen):
        raise InvalidArgumentError("ID_REPEATED", "a client is named twice in --clients")
    holders = tuple(f"trustee-{number}" for number in range(1, trustees + 1))
    if set(holders) & set(chosen):
        raise InvalidArgumentError("ID_REPEATED", "a client has the id of a trustee")
    plan = Plan(
        federation,
        domain,
        chosen,
        host,
        keyservice_port,
        enrol_port,
        aggregator_port,
        trustees=holders,
        trustee_port=trustee_port,
    )
    written = initialise(folder, plan)
    if json:
        print_json([str(path) for path in written])
        return
    for path in written:
        typer.echo(path)
    typer.echo(
        f"\nNext: put each client's table at {folder}/data/<client>.csv and the model's code into "
        f"{folder}/models, then: finsecure up {folder} --with-clients"
    )


def up(
    folder: FolderArgument,
    with_clients: Annotated[
        bool, typer.Option("--with-clients", help="Enrol and run all clients of clients/ too.")
    ] = False,
) -> None:
    """Run a federation's services on this machine until Ctrl-C.

    What is missing is made first: the authority, the operator, the federation, the members. Run it
    again at any time; what is there is used. Each process writes to DIR/logs; one that ends is
    started again.
    """
    asyncio.run(_run(Deployment(folder), with_clients))


async def _run(deployment: Deployment, with_clients: bool) -> None:
    supervisor = Supervisor(say=typer.echo)
    work = asyncio.current_task()
    assert work is not None  # noqa: S101 - we are in it
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        await bring_up(deployment, clients=with_clients, started=supervisor.add, say=typer.echo)
        typer.echo(f"ready; logs are in {deployment.folder / 'logs'}; Ctrl-C stops everything")
        await supervisor.watch()
    except asyncio.CancelledError:
        typer.echo("stopping")
    finally:
        await supervisor.stop()
