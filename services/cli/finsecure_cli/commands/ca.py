"""`finsecure ca`: replace the intermediate certificate authority while calls go on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from finsecure_rpc.root_signing import read_certificate, read_root_key, sign_request, write_request

from finsecure_cli.authority_transport import (
    activate_authority,
    install_authority,
    list_authorities,
    prepare_authority,
    revoke_authority,
    taint_authority,
)
from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.convert import Document
from finsecure_cli.output import JsonOption, print_json, print_table, short_name, short_time
from finsecure_cli.settings import DEFAULT_FILE

app = typer.Typer(
    no_args_is_help=True,
    help="Replace the intermediate authority: prepare, sign, install, activate, taint, revoke.",
)

AuthorityArgument = Annotated[str, typer.Argument(help="Id of the authority; see `ca status`.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the record.")]


@app.command(epilog="Example: finsecure ca status")
def status(json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """List the intermediate authorities and what the next step waits for."""
    found = with_services(config, list_authorities)
    if json:
        print_json(found)
        return
    print_table(
        ("authority", "state", "ends", "known to all", "needed by"),
        [
            (
                short_name(item),
                item["state"],
                short_time(item, "not_after"),
                short_time(item, "propagate_time"),
                item["dependents"],
            )
            for item in found
        ],
        empty="There is no authority.",
    )


@app.command(epilog="Example: finsecure ca prepare --csr next.csr")
def prepare(
    csr: Annotated[Path, typer.Option(help="New file for the request that the root signs.")],
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Make the next authority's key at the key service, and fetch its request."""
    made = with_services(config, prepare_authority)
    write_request(csr, bytes.fromhex(made["csr"]))
    if json:
        print_json({**made, "csr_file": str(csr)})
    else:
        typer.echo(f"{made['name']}: sign {csr} where the root's key is, with `finsecure ca sign`")


@app.command(
    epilog="Example: finsecure ca sign next.csr --root root.pem --root-key root.key --out next.pem"
)
def sign(
    csr: Annotated[Path, typer.Argument(help="Request from `ca prepare`.")],
    root: Annotated[Path, typer.Option(help="Root certificate.")],
    root_key: Annotated[Path, typer.Option(help="The root's private key (PEM, mode 0600).")],
    out: Annotated[Path, typer.Option(help="New file for the certificate.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days of validity.")] = 1825,
) -> None:
    """Sign a request with the root's key in a file. Needs no network and no configuration.

    Where that key lies in a token, `finsecure-keyservice ca-sign` does it.
    """
    made = sign_request(
        csr, root, lambda _: read_root_key(root_key), out, datetime.now(UTC), timedelta(days=days)
    )
    name = made.subject.rfc4514_string()
    typer.echo(f"{out}: {name}, until {made.not_valid_after_utc.isoformat()}")


@app.command(epilog="Example: finsecure ca install 0f…3a --certificate next.pem")
def install(
    authority: AuthorityArgument,
    certificate: Annotated[Path, typer.Option(help="Certificate from `ca sign`.")],
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Bring the certificate that the root has made; the authority is believed from then on."""
    der = read_certificate(certificate)
    done = with_services(config, lambda services: install_authority(services, authority, der))
    _print(done, json)


@app.command(epilog="Example: finsecure ca activate 0f…3a")
def activate(
    authority: AuthorityArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Do not wait until all know it. Needs two officers.")
    ] = False,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Let an authority issue in place of the present one, which stays believed."""
    done = with_services(
        config, lambda services: activate_authority(services, authority, force=force)
    )
    _print(done, json)


@app.command(epilog="Example: finsecure ca taint 7c…91 --reason 'yearly rotation'")
def taint(
    authority: AuthorityArgument,
    reason: ReasonOption,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Have whoever has a certificate of a former authority renew it at once."""
    _print(
        with_services(config, lambda services: taint_authority(services, authority, reason)), json
    )


@app.command(epilog="Example: finsecure ca revoke 7c…91 --reason 'yearly rotation'")
def revoke(
    authority: AuthorityArgument,
    reason: ReasonOption,
    force: Annotated[
        bool, typer.Option("--force", help="Although members depend on it: they enrol again.")
    ] = False,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """End belief in a tainted authority. Needs two security officers: see `finsecure approval`."""
    done = with_services(
        config, lambda services: revoke_authority(services, authority, reason, force=force)
    )
    _print(done, json)


def _print(authority: Document, json: bool) -> None:
    if json:
        print_json(authority)
    else:
        typer.echo(f"{authority['name']} is {authority['state']}")
