"""`finsecure approval`: the second person's say in what nobody may do alone."""

from typing import Annotated

import typer

from finsecure_cli.approval_transport import (
    approve_proposal,
    get_proposal,
    list_proposals,
    reject_proposal,
)
from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.convert import Document
from finsecure_cli.output import JsonOption, print_json, print_table, short_name, short_time
from finsecure_cli.settings import DEFAULT_FILE

app = typer.Typer(no_args_is_help=True, help="Decide on what needs two security officers.")

ProposalArgument = Annotated[str, typer.Argument(help="Id of the proposal.")]


@app.command("list", epilog="Example: finsecure approval list")
def list_(
    every: Annotated[
        bool, typer.Option("--all", help="Also what was done, rejected or ran out of time.")
    ] = False,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """List what waits for a second security officer, newest first."""
    found = with_services(config, lambda services: list_proposals(services, open_only=not every))
    if json:
        print_json(found)
        return
    print_table(
        ("proposal", "state", "what", "proposer", "until"),
        [
            (
                short_name(item),
                item["state"],
                item["summary"],
                short_name(item, "proposer"),
                short_time(item, "expire_time"),
            )
            for item in found
        ],
        empty="Nothing waits for approval.",
    )


@app.command(epilog="Example: finsecure approval show 0123456789abcdef")
def show(
    proposal: ProposalArgument, json: JsonOption = False, config: ConfigOption = DEFAULT_FILE
) -> None:
    """Show one proposal whole."""
    _print(with_services(config, lambda services: get_proposal(services, proposal)), json)


@app.command(epilog="Example: finsecure approval approve 0123456789abcdef")
def approve(
    proposal: ProposalArgument, json: JsonOption = False, config: ConfigOption = DEFAULT_FILE
) -> None:
    """Agree to what another security officer proposed; whose call is repeated does it."""
    _print(with_services(config, lambda services: approve_proposal(services, proposal)), json)


@app.command(epilog="Example: finsecure approval reject 0123456789abcdef --reason 'not agreed'")
def reject(
    proposal: ProposalArgument,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """End a proposal that is not done yet, another's or one's own."""
    _print(
        with_services(config, lambda services: reject_proposal(services, proposal, reason)), json
    )


def _print(proposal: Document, json: bool) -> None:
    if json:
        print_json(proposal)
        return
    print_table(
        ("field", "value"), [(key, value) for key, value in proposal.items() if value], empty=""
    )
