"""`finsecure federation`: open federations, and say how many hide one another in them."""

import asyncio
from typing import Annotated, Any

import typer
from finsecure_crypto.errors import InvalidArgumentError

from finsecure_cli import federation_transport
from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.output import JsonOption, print_json, print_table, short_name, short_time
from finsecure_cli.renewal import renew_if_due
from finsecure_cli.settings import DEFAULT_FILE, load_operator

app = typer.Typer(
    no_args_is_help=True, help="Open and list federations, and change their minimum cohorts."
)

RoundOption = Annotated[
    int | None,
    typer.Option("--minimum-cohort", min=2, help="Fewest clients whose inputs may be summed."),
]
SumOption = Annotated[
    int | None,
    typer.Option(
        "--minimum-sum-cohort", min=2, help="Fewest members of an audited sum that is opened."
    ),
]


@app.command(
    epilog="Example: finsecure federation create lending --display-name 'Credit risk, 5 banks' "
    "--minimum-cohort 4"
)
def create(
    federation: Annotated[str, typer.Argument(help="Id: lower case, digits, hyphens.")],
    display_name: Annotated[str, typer.Option(help="Name for people.")] = "",
    minimum_cohort: RoundOption = None,
    minimum_sum_cohort: SumOption = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Open a federation; its identities get a trust domain of their own.

    Without options it demands 3 clients of a round, and 50 members of an audited sum. Raising
    that later takes one operator, lowering it two security officers.
    """
    made = with_services(
        config,
        lambda services: federation_transport.create_federation(
            services, federation, display_name, minimum_cohort or 0, minimum_sum_cohort or 0
        ),
    )
    if json:
        print_json(made)
    else:
        typer.echo(f"{made['name']} is open; its trust domain is {made['trust_domain']}")


@app.command("list", epilog="Example: finsecure federation list --json")
def list_(json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """List all federations of the key service."""
    found = with_services(config, federation_transport.list_federations)
    if json:
        print_json(found)
        return
    print_table(
        ("federation", "name", "trust domain", "minimum cohort", "of sums", "created"),
        [
            (
                short_name(item),
                item["display_name"],
                item["trust_domain"],
                str(item["minimum_cohort"]),
                str(item["minimum_sum_cohort"]),
                short_time(item, "create_time"),
            )
            for item in found
        ],
        empty="There is no federation yet: finsecure federation create ID",
    )


@app.command(epilog="Example: finsecure federation show lending")
def show(
    federation: Annotated[
        str | None, typer.Argument(help="Id; by default that of the configuration.")
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Show a federation, and prove by the audit log what it demands, as its members do."""
    settings = load_operator(config)
    found: dict[str, Any] = with_services(
        config,
        lambda services: federation_transport.get_federation(
            services, federation or settings.federation
        ),
    )

    async def prove() -> dict[str, Any]:
        await renew_if_due(settings)
        return await federation_transport.prove_minima(settings, found)

    found["published"] = asyncio.run(prove())
    if json:
        print_json(found)
        return
    typer.echo(f"name            {found['name']}")
    typer.echo(f"trust domain    {found['trust_domain']}")
    typer.echo(f"created         {short_time(found, 'create_time')}")
    _show_minima(found)
    event = found["published"]
    typer.echo(f"published       event {event['index']} of the audit log, by {event['caller']}")


@app.command(
    epilog="Example: finsecure federation update lending --minimum-cohort 5 "
    "--minimum-sum-cohort 100"
)
def update(
    federation: Annotated[str, typer.Argument(help="Id of the federation.")],
    minimum_cohort: RoundOption = None,
    minimum_sum_cohort: SumOption = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Change the minimum cohorts of a federation; all of its members keep them.

    To raise takes one operator. To lower takes two security officers: one runs this, the other one
    `finsecure approval approve`, and the first one runs this again.
    """
    if minimum_cohort is None and minimum_sum_cohort is None:
        raise InvalidArgumentError(
            "NOTHING_TO_CHANGE", "say --minimum-cohort, --minimum-sum-cohort, or both"
        )
    changed = with_services(
        config,
        lambda services: federation_transport.update_federation(
            services,
            federation,
            minimum_cohort=minimum_cohort,
            minimum_sum_cohort=minimum_sum_cohort,
        ),
    )
    if json:
        print_json(changed)
    else:
        _show_minima(changed)


def _show_minima(found: dict[str, Any]) -> None:
    typer.echo(f"minimum cohort  {found['minimum_cohort']} clients of a round")
    typer.echo(f"                {found['minimum_sum_cohort']} members of an audited sum")
    typer.echo(f"revision        {found['revision']}")
