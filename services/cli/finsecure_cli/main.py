"""The command `finsecure`: wires the commands together."""

import typer
from finsecure_rpc import logs
from finsecure_rpc.console import run

from finsecure_cli.commands import (
    approval,
    audit,
    ca,
    ceremony,
    client,
    federation,
    key,
    keys,
    member,
    model,
    operator,
    rounds,
    seal,
    sums,
    task,
)
from finsecure_cli.commands.demo import demo
from finsecure_cli.commands.up import init, up
from finsecure_cli.token_option import TokenOption, use_token_file

app = typer.Typer(
    name="finsecure",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog="Exit status: 0 done; 1 failed; 2 wrong usage, file or configuration; 3 not "
    "authenticated or not allowed; 4 not found; 5 unavailable, try again later.",
)


@app.callback()
def _finsecure(token_file: TokenOption = None) -> None:
    """Train one model among organisations that may not show each other their data."""
    use_token_file(token_file)


app.command(
    epilog="Example: finsecure init lending --federation lending --clients bank-a,bank-b,bank-c"
)(init)
app.command(epilog="Example: finsecure up lending --with-clients")(up)
app.command(epilog="Example: finsecure unseal --share-file share-….txt")(seal.unseal)
app.command("seal-status", epilog="Example: finsecure seal-status --json")(seal.status)
app.command(epilog="Example: finsecure seal --reason 'intruder on the host'")(seal.seal)
app.add_typer(federation.app, name="federation")
app.add_typer(member.app, name="member")
app.add_typer(ca.app, name="ca")
app.add_typer(approval.app, name="approval")
app.add_typer(operator.app, name="operator")
app.add_typer(audit.app, name="audit")
app.add_typer(ceremony.app, name="ceremony")
app.add_typer(key.app, name="key")
app.add_typer(keys.app, name="keys")
app.add_typer(client.app, name="client")
app.add_typer(task.app, name="task")
app.add_typer(rounds.app, name="round")
app.add_typer(model.app, name="model")
app.add_typer(sums.app, name="sum")
app.command(epilog="Example: finsecure demo --out demo-out --rounds 20")(demo)


def main() -> None:
    """Run the command line."""
    logs.configure("finsecure", "WARNING")  # on standard error: output may be for a program
    run(app)


if __name__ == "__main__":
    main()
