"""`finsecure federation`: open and list federations."""

from typing import Annotated

import typer

from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.output import JsonOption, print_json, print_table, short_name, short_time
from finsecure_cli.settings import DEFAULT_FILE

app = typer.Typer(no_args_is_help=True, help="Open and list federations.")


@app.command(
    epilog="Example: finsecure federation create lending --display-name 'Credit risk, 5 banks'"
)
def create(
    federation: Annotated[str, typer.Argument(help="Id: lower case, digits, hyphens.")],
    display_name: Annotated[str, typer.Option(help="Name for people.")] = "",
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Open a federation; its identities get a trust domain of their own."""
    made = with_services(
        config, lambda services: services.create_federation(federation, display_name)
    )
    if json:
        print_json(made)
    else:
        typer.echo(f"{made['name']} is open; its trust domain is {made['trust_domain']}")


@app.command("list", epilog="Example: finsecure federation list --json")
def list_(json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """List all federations of the key service."""
    found = with_services(config, lambda services: services.list_federations())
    if json:
        print_json(found)
        return
    print_table(
        ("federation", "name", "trust domain", "created"),
        [
            (
                short_name(item),
                item["display_name"],
                item["trust_domain"],
                short_time(item, "create_time"),
            )
            for item in found
        ],
        empty="There is no federation yet: finsecure federation create ID",
    )
