"""`finsecure round`: the history of a task's rounds."""

from typing import Annotated

import typer
from finsecure_crypto.errors import InvalidArgumentError

from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.commands.task import TaskArgument
from finsecure_cli.convert import Document
from finsecure_cli.output import (
    JsonOption,
    print_json,
    print_table,
    seconds_between,
    short_name,
    size,
)
from finsecure_cli.rounds import summed
from finsecure_cli.settings import DEFAULT_FILE

app = typer.Typer(no_args_is_help=True, help="Read the history of a task's rounds.")


@app.command("list", epilog="Example: finsecure round list credit-default")
def list_(
    task: TaskArgument, json: JsonOption = False, config: ConfigOption = DEFAULT_FILE
) -> None:
    """List a task's rounds, oldest first."""
    found = with_services(config, lambda services: services.list_rounds(task))
    if json:
        print_json(found)
        return
    print_table(
        ("round", "kind", "state", "summed", "invited", "loss", "AUC", "seconds", "received"),
        [_row(item) for item in found],
        empty="There has been no round yet.",
    )


@app.command(epilog="Example: finsecure round show credit-default 8-1")
def show(
    task: TaskArgument,
    round_: Annotated[
        str, typer.Argument(metavar="ROUND", help="Number and attempt, such as 8-1.")
    ],
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Show one round: its phases, who was in each, trustees, bytes by client, metrics."""
    number, _, attempt = round_.partition("-")
    if not (number.isdigit() and (attempt or "1").isdigit()):
        raise InvalidArgumentError(
            "ROUND_MALFORMED", f"{round_!r} is no round: give number and attempt, such as 8-1"
        )
    found = with_services(
        config, lambda services: services.get_round(task, f"{number}-{attempt or 1}")
    )
    if json:
        print_json(found)
        return
    typer.echo(f"{found['name']}: {found['kind']}, {found['state']}")
    if found["abort_reason"]:
        typer.echo(f"aborted: {found['abort_detail']} [{found['abort_reason']}]")
    for blame in found["blamed"]:
        typer.echo(f"broke the protocol: {blame['client']} [{blame['reason']}]")
    print_table(
        ("phase", "seconds", "clients"),
        [
            (
                phase["phase"].replace("_", " "),
                seconds_between(phase, "open_time", "close_time"),
                ", ".join(phase["clients"]),
            )
            for phase in found["phases"]
        ],
        empty="No phase has opened.",
    )
    if found["trustees"]:
        print_table(
            ("trustee", "share", "opened the sum"),
            [
                (answer["trustee"], answer["holder"], f"no: {answer['reason']}")
                if answer["reason"]
                else (answer["trustee"], answer["holder"], "yes")
                for answer in found["trustees"]
            ],
            empty="",
        )
    print_table(
        ("client", "received"),
        [(client, size(count)) for client, count in found["received_bytes"].items()],
        empty="Nothing was received.",
    )
    for name, value in found.get("metrics", {}).items():
        typer.echo(f"{name.replace('_', ' ')}: {value:.6g}")


def _row(round_: Document) -> tuple[object, ...]:
    metrics = round_.get("metrics", {})
    training = round_["kind"] == "training"
    return (
        short_name(round_),
        round_["kind"],
        round_["state"] + (f" ({round_['abort_reason']})" if round_["abort_reason"] else ""),
        len(summed(round_)),
        len(round_["invited"]),
        metrics.get("loss") if training else None,
        metrics.get("auc"),
        seconds_between(round_, "start_time", "end_time"),
        size(sum(round_["received_bytes"].values())),
    )
