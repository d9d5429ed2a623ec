"""`finsecure audit`: read a log of decisions, and check that nobody rewrote it."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from finsecure_crypto.audit_event import Event
from finsecure_crypto.checkpoint import Checkpoint, LogVerifier
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.log_export import note_of, verify_export

from finsecure_cli.commands.options import ConfigOption
from finsecure_cli.following import export_log, memory_of, verify_log, with_log
from finsecure_cli.output import CONSOLE, JsonOption, print_json, short_name
from finsecure_cli.settings import DEFAULT_FILE, load_operator

app = typer.Typer(no_args_is_help=True, help="Read the log of decisions, and verify it.")

KeyOption = Annotated[
    str,
    typer.Option(
        "--key",
        help="The log's verifier key, as `init` or `enrol` printed it, the present or a former "
        "one. Default: the one that is remembered since the first contact.",
    ),
]

TrusteeOption = Annotated[
    str,
    typer.Option("--trustee", help="Id of the trustee whose log is meant. Default: key service."),
]


@app.command(epilog="Example: finsecure audit verify --file /archive/audit.jsonl")
def verify(
    file: Annotated[
        Path | None, typer.Option(help="Verify this export instead of asking the service.")
    ] = None,
    key: KeyOption = "",
    trustee: TrusteeOption = "",
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Check every event against the signed checkpoints, and against the one remembered here.

    Tells a changed event, a cut end and a database that was restored from an older copy. Exit
    status 1 means that the log is not what it was.
    """
    pinned = _pinned(key)
    if file is None:
        checkpoint = asyncio.run(with_log(config, verify_log, pinned, trustee))
    else:
        checkpoint = _verify_file(file, pinned, config, trustee)
    if json:
        print_json(
            {
                "log": checkpoint.origin,
                "events": checkpoint.size,
                "root": checkpoint.root.hex(),
                "verified": True,
            }
        )
    else:
        typer.echo(
            f"{checkpoint.size} events of {checkpoint.origin} are whole and unchanged; "
            f"root {checkpoint.root.hex()}"
        )


@app.command(epilog="Example: finsecure audit tail --follow --trustee north")
def tail(
    count: Annotated[int, typer.Option("-n", min=0, help="How many of the last events.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones.")] = False,
    key: KeyOption = "",
    trustee: TrusteeOption = "",
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Show the last events; with --json, one line of JSON each, as the log has them."""
    asyncio.run(
        with_log(
            config,
            lambda log: log.tail(count, lambda leaf: _show(leaf, json), follow=follow),
            _pinned(key),
            trustee,
        )
    )


@app.command(epilog="Example: finsecure audit show audit.jsonl --after 56")
def show(
    file: Annotated[Path, typer.Argument(help="An export, or the log's second copy.")],
    after: Annotated[int, typer.Option(min=-1, help="Show what comes behind this event.")] = -1,
    json: JsonOption = False,
) -> None:
    """Show the events of a file, such as those that a restored database lacks.

    Asks no service and checks no signature; `finsecure audit verify --file` does.
    """
    with file.open("rb") as lines:
        for line in lines:
            leaf = line.rstrip(b"\n")
            if note_of(leaf) is None and Event.parse(leaf).index > after:
                _show(leaf, json)


@app.command(epilog="Example: finsecure audit export /archive/audit.jsonl --follow")
def export(
    output: Annotated[Path, typer.Argument(help="File of JSON lines; an earlier one goes on.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events.")] = False,
    key: KeyOption = "",
    trustee: TrusteeOption = "",
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Append all events and signed checkpoints to a file on this machine, and verify it."""
    pinned = _pinned(key)
    checkpoint = asyncio.run(
        with_log(config, lambda log: export_log(log, output, follow=follow), pinned, trustee)
    )
    typer.echo(f"{output} has all {checkpoint.size} events of {checkpoint.origin}", err=True)


def _pinned(key: str) -> LogVerifier | None:
    return LogVerifier.parse(key) if key else None


def _verify_file(file: Path, pinned: LogVerifier | None, config: Path, trustee: str) -> Checkpoint:
    remembered = memory_of(load_operator(config), trustee).load() if pinned is None else None
    verifier = pinned or (remembered.verifier if remembered else None)
    if verifier is None:
        raise ConfigurationError(
            "VERIFIER_KEY_UNKNOWN",
            "this machine never saw the log: give its verifier key with --key",
        )
    with file.open("rb") as lines:
        return verify_export(lines, verifier, remembered.checkpoint if remembered else None)


def _show(leaf: bytes, json: bool) -> None:
    if json:
        typer.echo(leaf.decode("ascii"))
    else:
        CONSOLE.print(_line(Event.parse(leaf)), soft_wrap=True, markup=False)


def _line(event: Event) -> str:
    details = " ".join(f"{name}={value}" for name, value in event.details.items())
    who = event.caller.rpartition("/")[2] or "anonymous"
    subject = short_name({"name": event.subject})
    return (
        f"{event.index:>6}  {event.time.astimezone():%Y-%m-%d %H:%M:%S}  {event.action:<22} "
        f"{subject}  by {who}  {details}".rstrip()
    )
