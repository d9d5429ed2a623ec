"""`finsecure member invite`, `invitations`, `uninvite`: tokens that let several members in."""

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from finsecure_cli import join_token_transport
from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.handing_out import JOIN_TOKEN, hand_out, require_new
from finsecure_cli.output import JsonOption, print_json, print_table, short_name, short_time
from finsecure_cli.settings import DEFAULT_FILE


class GuestKind(StrEnum):
    """What a join token can make of who comes."""

    CLIENT = "client"
    AGGREGATOR = "aggregator"


TokenArgument = Annotated[
    str, typer.Argument(metavar="TOKEN", help="Id of the token; see finsecure member invitations.")
]


def invite(
    prefix: Annotated[str, typer.Option(help="What all ids begin with, such as branch-.")],
    uses: Annotated[int, typer.Option(min=1, max=1000, help="How many members it lets in.")],
    role: Annotated[GuestKind, typer.Option(help="What it makes of them.")] = GuestKind.CLIENT,
    lifetime_h: Annotated[
        float, typer.Option("--lifetime-h", min=0.01, help="How many hours it is good for.")
    ] = 24.0,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the token into this new file (mode 0600) instead of printing it."),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Make a token by which several new members come in, and show it, this once.

    Whoever has it can make up as many members as it has uses left: hand it over on a trusted way,
    with few uses and a short life. Each member chooses an id and enrols with
    --join-token-file and --id.
    """
    require_new(output, JOIN_TOKEN)
    made, text = with_services(
        config,
        lambda services: join_token_transport.create_join_token(
            services, role.value, prefix, uses, timedelta(hours=lifetime_h)
        ),
    )
    hand_out(text, JOIN_TOKEN, output, made, json=json)


def invitations(
    token: Annotated[
        str | None, typer.Argument(metavar="[TOKEN]", help="List who came in by this token.")
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """List the join tokens of the federation, or who came in by one of them."""
    if token is not None:
        came = with_services(
            config, lambda services: join_token_transport.list_join_token_uses(services, token)
        )
        if json:
            print_json(came)
            return
        print_table(
            ("member", "joined"),
            [(short_name(item, "member"), short_time(item, "join_time")) for item in came],
            empty="Nobody has come in by this token",
        )
        return
    found = with_services(config, join_token_transport.list_join_tokens)
    if json:
        print_json(found)
        return
    print_table(
        ("token", "role", "ids", "uses", "state", "until"),
        [
            (
                short_name(item),
                item["role"],
                f"{item['id_prefix']}…",
                f"{item['uses']} of {item['maximum_uses']}",
                item["state"],
                short_time(item, "expire_time"),
            )
            for item in found
        ],
        empty="There is no join token: finsecure member invite",
    )


def uninvite(
    token: TokenArgument,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    members: Annotated[
        bool, typer.Option("--members", help="Revoke all members who came in by it, too.")
    ] = False,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """End a join token at once; with --members, put out all who came in by it. No way back."""
    gone, put_out = with_services(
        config,
        lambda services: join_token_transport.revoke_join_token(
            services, token, reason, members=members
        ),
    )
    if json:
        print_json({**gone, "revoked_members": put_out})
        return
    typer.echo(f"{token} is revoked; {gone['uses']} had come in by it")
    for name in put_out:
        typer.echo(f"{name} is revoked")


def add_to(app: typer.Typer) -> None:
    """Add the commands to those of `finsecure member`."""
    app.command(
        epilog="Example: finsecure member invite --prefix branch- --uses 20 --output branches.token"
    )(invite)
    app.command(epilog="Example: finsecure member invitations 0123456789abcdef")(invitations)
    app.command(
        epilog="Example: finsecure member uninvite 0123456789abcdef --reason 'in a mail' --members"
    )(uninvite)
