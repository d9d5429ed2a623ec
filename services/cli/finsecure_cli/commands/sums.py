"""`finsecure sum`: audited sums of integers that members contribute encrypted."""

from pathlib import Path
from typing import Annotated

import typer
from finsecure_crypto.errors import InvalidArgumentError, StateError
from rich.markup import escape

from finsecure_cli import sum_transport
from finsecure_cli.commands.client import PASS_THROUGH, become
from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.convert import Document
from finsecure_cli.output import JsonOption, print_json, print_table, short_name, short_time
from finsecure_cli.settings import DEFAULT_FILE

app = typer.Typer(
    no_args_is_help=True,
    help="Add up what members contribute encrypted; only totals of enough members are opened.",
)
SumArgument = Annotated[str, typer.Argument(metavar="SUM", help="Id of the sum.")]


@app.command(
    epilog="Example: finsecure sum create exposure-q3 merchants.txt --maximum 1000000000 "
    "--key paillier-1"
)
def create(
    sum_: SumArgument,
    labels: Annotated[Path, typer.Argument(help="File with a label a line, such as merchants.")],
    maximum: Annotated[
        int, typer.Option(min=1, max=2**64 - 1, help="Largest value of one member.")
    ],
    key: Annotated[str, typer.Option(help="Id of a Paillier key; see finsecure key list.")],
    description: Annotated[str, typer.Option(help="What is added up, and what for.")] = "",
    minimum: Annotated[
        int, typer.Option(min=2, max=10_000, help="Fewest contributors that are opened.")
    ] = 50,
    most: Annotated[int, typer.Option(min=2, max=10_000, help="Most contributors.")] = 10_000,
    hours: Annotated[
        float, typer.Option(min=0, max=168, help="How long contributions are taken.")
    ] = 24.0,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Ask all members to contribute an integer for each label."""
    try:
        lines = [line.strip() for line in labels.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(
            "LABELS_INVALID", f"{labels} cannot be read as text ({error}); name another file"
        ) from error
    made = with_services(
        config,
        lambda services: sum_transport.create_sum(
            services,
            sum_,
            lines,
            description=description,
            maximum=maximum,
            minimum_contributors=minimum,
            maximum_contributors=most,
            key=key,
            collecting_s=hours * 3600,
            opening_s=3600.0,
        ),
    )
    if json:
        print_json(made)
    else:
        typer.echo(f"created {made['name']}; contributions until {made['collecting_deadline']}")


@app.command("list", epilog="Example: finsecure sum list --json")
def list_(json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """List the federation's sums."""
    found = with_services(config, sum_transport.list_sums)
    if json:
        print_json(found)
        return
    print_table(
        ("sum", "state", "contributions", "until", "description"),
        [
            (
                short_name(item),
                item["state"],
                item["contributions"],
                short_time(item, "collecting_deadline"),
                escape(item["spec"]["description"]),
            )
            for item in found
        ],
        empty="There is no sum yet: finsecure sum create SUM LABELS --maximum N --key KEY",
    )


@app.command(epilog="Example: finsecure sum show exposure-q3")
def show(sum_: SumArgument, json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """Show one sum: who has contributed, who was left out, and the totals once opened."""
    _print(with_services(config, lambda services: sum_transport.get_sum(services, sum_)), json)


@app.command(
    context_settings=PASS_THROUGH,
    epilog="Example: finsecure sum contribute --config client.toml --sum exposure-q3 values.csv",
)
def contribute(context: typer.Context) -> None:
    """Contribute as a member; options are those of `finsecure-client contribute --help`."""
    become("contribute", context.args)


@app.command("open", epilog="Example: finsecure sum open exposure-q3")
def open_(sum_: SumArgument, json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """Take no more contributions, and wait for the totals.

    Without this, it happens when the time for contributions is over.
    """
    found = with_services(config, lambda services: sum_transport.open_sum(services, sum_))
    _print(found, json)
    if found["state"] != "opened":
        raise StateError(
            "SUM_NOT_OPENED", f"{found['name']} is {found['state']}: {found['detail']}"
        )


@app.command(epilog="Example: finsecure sum cancel exposure-q3")
def cancel(
    sum_: SumArgument, json: JsonOption = False, config: ConfigOption = DEFAULT_FILE
) -> None:
    """End a sum without totals."""
    ended = with_services(config, lambda services: sum_transport.cancel_sum(services, sum_))
    if json:
        print_json(ended)
    else:
        typer.echo(f"{ended['name']} is {ended['state']}")


def _print(found: Document, json: bool) -> None:
    if json:
        print_json(found)
        return
    spec = found["spec"]
    typer.echo(f"name           {found['name']}")
    typer.echo(f"description    {spec['description']}")
    typer.echo(f"state          {found['state']} {found['detail']}")
    typer.echo(f"created by     {found['creator']}")
    typer.echo(
        f"contributions  {found['contributions']}, of {spec['minimum_contributors']} to "
        f"{spec['maximum_contributors']}, until {short_time(found, 'collecting_deadline')}"
    )
    for item in found["excluded"]:
        typer.echo(f"  left out     {item['client']}: {item['reason']}")
    for item in found["trustees"]:
        typer.echo(f"  trustee      {item['trustee']}: {item['reason'] or 'helped'}")
    if found["totals"]:
        print_table(
            ("label", "total"),
            list(zip(map(escape, spec["labels"]), found["totals"], strict=True)),
            empty="",
        )
