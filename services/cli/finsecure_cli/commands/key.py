"""`finsecure key`: the federation's homomorphic encryption keys."""

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from finsecure_cli import key_transport
from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.output import JsonOption, print_json, print_table, short_name, short_time
from finsecure_cli.renewal import renew_if_due
from finsecure_cli.settings import DEFAULT_FILE, load_operator
from finsecure_cli.token_option import require_certificate

app = typer.Typer(no_args_is_help=True, help="Look at encryption keys, and take them out of use.")


class NextState(StrEnum):
    """Where a key may go."""

    ENABLED = "enabled"
    DEACTIVATED = "deactivated"
    DISABLED = "disabled"
    DESTROYED = "destroyed"
    COMPROMISED = "compromised"


KeyArgument = Annotated[str, typer.Argument(help="Id of the key, such as bgv-1.")]


@app.command("list", epilog="Example: finsecure key list --json")
def list_(json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """List the encryption keys of the federation."""
    found = with_services(config, key_transport.list_keys)
    if json:
        print_json(found)
        return
    print_table(
        ("key", "mode", "made by", "opened by", "state", "registered"),
        [
            (
                short_name(item),
                item["mode"],
                _maker(item["generation"]),
                f"{item['threshold']} of {item['holders']}",
                item["state"],
                short_time(item, "create_time"),
            )
            for item in found
        ],
        empty="There is no encryption key yet: finsecure ceremony run KEY --mode bgv",
    )


@app.command(epilog="Example: finsecure key show bgv-1")
def show(key: KeyArgument, json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """Show one key: its digest, how it was made, and who holds its shares."""
    found = with_services(config, lambda services: key_transport.get_key(services, key))
    if json:
        print_json(found)
        return
    typer.echo(f"name        {found['name']}")
    typer.echo(f"mode        {found['mode']}")
    typer.echo(f"state       {found['state']}")
    typer.echo(f"made by     {_maker(found['generation'])}")
    typer.echo(f"opened by   {found['threshold']} of {found['holders']} trustees")
    for item in found["endorsements"]:
        typer.echo(f"  share {item['holder']}   {item['trustee']}")
    typer.echo(f"digest      {found['digest']}")
    typer.echo(f"size        {found['size_bytes']} bytes")
    typer.echo(f"registered  {short_time(found, 'create_time')}")


@app.command(epilog="Example: finsecure key verify bgv-1")
def verify(key: KeyArgument, json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """Check a key as clients do: the trustees' signatures, its digest, and the audit log."""
    require_certificate()

    async def work() -> dict[str, object]:
        settings = load_operator(config)
        await renew_if_due(settings)
        return await key_transport.verify_key(settings, key)

    found = asyncio.run(work())
    if json:
        print_json(found)
        return
    holders = found["trustees"]
    assert isinstance(holders, list)  # noqa: S101 - of ids
    typer.echo(f"{found['name']}: signed by {', '.join(holders)}, in the audit log, unchanged")


@app.command(epilog="Example: finsecure key state bgv-1 deactivated --reason 'yearly rotation'")
def state(
    key: KeyArgument,
    state: Annotated[NextState, typer.Argument(help="State to go to.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Move a key to another state.

    deactivated: opens what was encrypted, encrypts nothing new. disabled: neither, for now.
    destroyed and compromised: neither, for good; to destroy takes two security officers.
    """
    moved = with_services(
        config, lambda services: key_transport.set_key_state(services, key, state.value, reason)
    )
    if json:
        print_json(moved)
    else:
        typer.echo(f"{moved['name']} is {moved['state']}")


def _maker(generation: str) -> str:
    return "a dealer" if generation == "dealer" else "the trustees"
