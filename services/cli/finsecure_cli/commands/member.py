"""`finsecure member`: who may enrol, and who is out."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from finsecure_cli.commands import invitations
from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.handing_out import API_KEY, hand_out, require_new
from finsecure_cli.output import JsonOption, print_json, print_table, short_name, short_time
from finsecure_cli.settings import DEFAULT_FILE, load_operator

app = typer.Typer(no_args_is_help=True, help="Say who may enrol, and who is out.")


class MemberKind(StrEnum):
    """What a member is."""

    CLIENT = "client"
    AGGREGATOR = "aggregator"
    TRUSTEE = "trustee"
    VIEWER = "viewer"
    OPERATOR = "operator"
    OFFICER = "officer"


MemberArgument = Annotated[str, typer.Argument(help="Id of the member, such as bank-a.")]
KindOption = Annotated[MemberKind, typer.Option("--role", help="What the member is.")]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        help="Write the API key into this new file (mode 0600) instead of printing it.",
    ),
]


def member_name(federation: str, kind: MemberKind, member: str) -> str:
    """Return the resource name of a member."""
    if kind in (MemberKind.VIEWER, MemberKind.OPERATOR, MemberKind.OFFICER):
        return f"{kind.value}s/{member}"
    return f"federations/{federation}/{kind.value}s/{member}"


@app.command(epilog="Example: finsecure member add bank-a --key-file bank-a.key")
def add(
    member: MemberArgument,
    role: KindOption = MemberKind.CLIENT,
    display_name: Annotated[str, typer.Option(help="Name for people.")] = "",
    key_file: KeyFileOption = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Register a member and show its API key, this once.

    Hand the key and the root certificate to the member on a trusted way; it enrols with them.
    """
    name = member_name(load_operator(config).federation, role, member)
    require_new(key_file, API_KEY)
    made, api_key = with_services(
        config, lambda services: services.create_member(name, display_name)
    )
    hand_out(api_key, API_KEY, key_file, made, json=json)


@app.command(epilog="Example: finsecure member key bank-a --key-file bank-a.key")
def key(
    member: MemberArgument,
    role: KindOption = MemberKind.CLIENT,
    key_file: KeyFileOption = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Issue a new API key to a member; its older unused ones become void."""
    name = member_name(load_operator(config).federation, role, member)
    require_new(key_file, API_KEY)
    api_key = with_services(config, lambda services: services.issue_api_key(name))
    hand_out(api_key, API_KEY, key_file, {"name": name}, json=json)


@app.command(epilog="Example: finsecure member leaked bank-a --reason 'key in a mail' --key-file k")
def leaked(
    member: MemberArgument,
    reason: Annotated[str, typer.Option(help="What happened, for the record.")],
    role: KindOption = MemberKind.CLIENT,
    key_file: KeyFileOption = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Answer a leak of a member's API key or private keys: revoke all it has, issue a new key.

    The membership goes on: the member empties its identity folder and enrols again.
    """
    name = member_name(load_operator(config).federation, role, member)
    require_new(key_file, API_KEY)
    api_key, ended = with_services(
        config, lambda services: services.reissue_credentials(name, reason)
    )
    if not json:
        typer.echo(f"{name}: {len(ended)} certificates are revoked", err=True)
    made = {"name": name, "revoked_certificates": ended}
    hand_out(api_key, API_KEY, key_file, made, json=json)


@app.command("list", epilog="Example: finsecure member list --json | jq -r '.[].name'")
def list_(
    operators: Annotated[
        bool, typer.Option("--operators", help="List the operators instead.")
    ] = False,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """List the members of the federation."""
    found = with_services(
        config, lambda services: services.list_members("" if operators else services.federation)
    )
    if json:
        print_json(found)
        return
    print_table(
        ("member", "role", "state", "SPIFFE ID", "registered"),
        [
            (
                short_name(item),
                item["role"],
                item["state"],
                item["spiffe_id"],
                short_time(item, "create_time"),
            )
            for item in found
        ],
        empty="There is no member yet: finsecure member add ID",
    )


@app.command(epilog="Example: finsecure member suspend bank-a --reason 'under investigation'")
def suspend(
    member: MemberArgument,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    role: KindOption = MemberKind.CLIENT,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Let a member do nothing, from its next call on, until it is reactivated."""
    name = member_name(load_operator(config).federation, role, member)
    away = with_services(config, lambda services: services.suspend_member(name, reason))
    if json:
        print_json(away)
    else:
        typer.echo(f"{name} is suspended")


@app.command(epilog="Example: finsecure member reactivate bank-a")
def reactivate(
    member: MemberArgument,
    role: KindOption = MemberKind.CLIENT,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """End a suspension: the member goes on with the certificates that it has.

    Of a trustee it needs two security officers: see `finsecure approval`.
    """
    name = member_name(load_operator(config).federation, role, member)
    back = with_services(config, lambda services: services.reactivate_member(name))
    if json:
        print_json(back)
    else:
        typer.echo(f"{name} is {back['state']}")


@app.command(epilog="Example: finsecure member revoke bank-a --reason 'left the federation'")
def revoke(
    member: MemberArgument,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    role: KindOption = MemberKind.CLIENT,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Put a member out: certificates revoked at once, API keys void. There is no way back."""
    name = member_name(load_operator(config).federation, role, member)
    gone = with_services(config, lambda services: services.revoke_member(name, reason))
    if json:
        print_json(gone)
    else:
        typer.echo(f"{name} is revoked")


invitations.add_to(app)
