"""The command `finsecure-keyservice`."""

import asyncio
import os
import sys
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from finsecure_crypto.audit_event import seal
from finsecure_crypto.certificates import Role
from finsecure_rpc import console, logs
from finsecure_rpc.commands import Config, command_line
from finsecure_rpc.config import load
from finsecure_rpc.root_signing import sign_request
from finsecure_rpc.unsealing import asked_shares

from finsecure_keyservice import audit_key_rotation, list_renumbering, pepper_rotation
from finsecure_keyservice import backup as copies
from finsecure_keyservice.clock import system_clock
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.founding import found, seal_key_of
from finsecure_keyservice.health import check
from finsecure_keyservice.local_api_keys import issue_locally
from finsecure_keyservice.names import MemberName
from finsecure_keyservice.protection.root_token import open_root_key
from finsecure_keyservice.protection.secret_files import SecretFiles
from finsecure_keyservice.protection.settings import RootToken
from finsecure_keyservice.rewrapping import rotate_key_encryption_key
from finsecure_keyservice.running import serve
from finsecure_keyservice.seal import local, resharing
from finsecure_keyservice.seal.unlocking import unlock
from finsecure_keyservice.state import StateFolder

app = command_line("Who belongs to a federation, and the certificates that prove it.")
ShareFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--share-file",
        help="File of one operator's share; once for each. What is missing is asked for.",
    ),
]

_FAILURE = "FINSECURE_KEYSERVICE_UNSEALING_FAILURE"
"""Variable by which a process says to the next one why it could not serve."""


@app.command()
def init(
    config: Config,
    operator: Annotated[str, typer.Option(help="Id of the first operator.")] = "operator",
    federation: Annotated[str | None, typer.Option(help="Id of a first federation.")] = None,
    root_key: Annotated[Path | None, typer.Option(help="File for the root's private key.")] = None,
    root_token: Annotated[
        Path | None,
        typer.Option(help="File (TOML) that names a token in which to make the root's key."),
    ] = None,
) -> None:
    """Make the authorities, the database and the first operator. Overwrites nothing."""
    if root_key is not None and root_token is not None:
        raise typer.BadParameter("the root's key goes into a file or into a token, not both")
    place = root_key if root_token is None else load(root_token, RootToken)
    made = found(load(config, Configuration), operator, federation, place, system_clock())
    typer.echo(f"root certificate    {made.root}   (give it to every member)")
    typer.echo(f"its SHA-256         {made.fingerprint}")
    typer.echo(f"audit log's key     {made.log_key}   (for `finsecure audit --key`)")
    lies = made.root_key or f"in the token that {root_token} names"
    typer.echo(f"root private key    {lies}   (move it offline now)")
    typer.echo(f"operator's API key  {made.api_key}   (good for one enrolment; then delete it)")
    _print_shares(made.shares)


@app.command()
def run(config: Config) -> None:
    """Serve until told to stop; with [seal], once operators have given enough shares."""
    configuration = load(config, Configuration)
    logs.configure("keyservice", configuration.log_level)
    failure = asyncio.run(serve(configuration, os.environ.pop(_FAILURE, "")))
    if failure is not None:
        # Python cannot erase what was in memory, so the process gives its memory back.
        os.environ[_FAILURE] = failure
        sys.stdout.flush()
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # this very command line


@app.command()
def health(config: Config) -> None:
    """Ask the running service whether it serves; exit code 0 means yes."""
    asyncio.run(check(load(config, Configuration)))


class Administrator(StrEnum):
    """Roles of people."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    OFFICER = "officer"


@app.command()
def operator_key(
    config: Config,
    operator: Annotated[str, typer.Option(help="Id of the person; may be new.")],
    output: Annotated[Path, typer.Option(help="New file for the API key.")],
    role: Annotated[
        Administrator, typer.Option(help="What the person may do; see the README.")
    ] = Administrator.OPERATOR,
    share_file: ShareFiles = None,
) -> None:
    """Write a new API key for a person who administers; the service may be running.

    For who is locked out, and to make security officers, who cannot be made over the network.
    """
    settings, files = _unlocked(config, share_file)
    person = MemberName(None, Role(role.value), operator)
    issue_locally(settings, person, output, system_clock(), files)
    typer.echo(f"{role.value}'s API key  {output}   (good for one enrolment; then delete it)")


@app.command(
    epilog="Example: finsecure-keyservice trustee-key --config keyservice.toml "
    "--federation lending --trustee north --output north.api-key"
)
def trustee_key(
    config: Config,
    federation: Annotated[str, typer.Option(help="Id of the federation.")],
    trustee: Annotated[str, typer.Option(help="Id of the trustee; may be new.")],
    output: Annotated[Path, typer.Option(help="New file for the API key.")],
    share_file: ShareFiles = None,
) -> None:
    """Register a trustee, or give it a new API key; the service may be running.

    For the first trustees of a federation. Over the network it takes two security officers.
    """
    settings, files = _unlocked(config, share_file)
    member = MemberName(federation, Role.TRUSTEE, trustee)
    issue_locally(settings, member, output, system_clock(), files)
    typer.echo(f"trustee's API key  {output}   (good for one enrolment; then delete it)")


@app.command()
def sealed(
    config: Config,
    detail: Annotated[str, typer.Option(help="Name of the detail, such as `reason`.")],
    share_file: ShareFiles = None,
) -> None:
    """Print what the audit log holds of a text, read from standard input, to confirm a guess."""
    settings, files = _unlocked(config, share_file)
    _, material = StateFolder(settings.state_dir).open(settings.protected_by, files)
    key = seal_key_of(settings, material)
    typer.echo(seal(key, detail, sys.stdin.read().removesuffix("\n")))


@app.command()
def rotate_kek(config: Config, share_file: ShareFiles = None) -> None:
    """Make a new key-encryption key and wrap everything anew; the service may be running."""
    settings, files = _unlocked(config, share_file)
    version, count = rotate_key_encryption_key(settings, system_clock(), files)
    typer.echo(f"version {version} wraps from now on; {count} keys were wrapped anew")


@app.command(epilog="Example: finsecure-keyservice rotate-pepper --config keyservice.toml")
def rotate_pepper(config: Config, share_file: ShareFiles = None) -> None:
    """Make a new pepper; unused API keys and join tokens become void, while the service runs."""
    settings, files = _unlocked(config, share_file)
    keys, tokens = pepper_rotation.rotate_pepper(settings, system_clock(), files)
    typer.echo(f"there is a new pepper; {keys} unused API keys and {tokens} join tokens are void")


@app.command(
    epilog="Example: finsecure-keyservice renumber-list --config keyservice.toml --above 1412"
)
def renumber_list(
    config: Config,
    above: Annotated[
        int,
        typer.Option(
            min=0,
            max=list_renumbering.HIGHEST,
            help="Number of the last list before the restore; the new one is above it.",
        ),
    ] = 0,
    share_file: ShareFiles = None,
) -> None:
    """Make a revocation list that members take again after a restore. Revoke again first.

    Its number is the time, or what is above the number that you give. That stands in the second
    copy of the audit log, in the last `revocation-list.sign`, and in what watchers say.
    """
    settings, files = _unlocked(config, share_file)
    number = list_renumbering.renumber_list(settings, system_clock(), files, above)
    typer.echo(f"revocation list {number} is signed; a running service sends it in half a minute")


@app.command(
    epilog="Example: finsecure-keyservice backup --config keyservice.toml --output /backup/monday"
)
def backup(
    config: Config, output: Annotated[Path, typer.Option(help="New folder for the copy.")]
) -> None:
    """Copy database and wrapped secrets, consistently; the service may be running.

    With the root certificate that is all. The key-encryption key is not in it: keep that elsewhere.
    Of PostgreSQL, pg_dump copies the database.
    """
    settings = load(config, Configuration)
    made = copies.back_up(settings, output, system_clock())
    typer.echo(f"{output} has {len(made.files)} files")
    if made.events is None:
        typer.echo("the database is not among them: copy it with pg_dump")
    else:
        typer.echo(f"its audit log has {made.events} events, the last one is {made.events - 1}")


@app.command(
    epilog="Example: finsecure-keyservice restore --config keyservice.toml --from /backup/monday"
)
def restore(
    config: Config,
    source: Annotated[Path, typer.Option("--from", help="Folder that `backup` made.")],
    share_file: ShareFiles = None,
) -> None:
    """Put a copy back where the configuration says; overwrites nothing.

    The key-encryption key has to be there before, and of PostgreSQL the database.
    """
    settings, files = _unlocked(config, share_file)
    events = copies.restore(settings, source, files)
    typer.echo(f"restored; the audit log has {events} events, the last one is {events - 1}")


@app.command(
    epilog="Example: finsecure-keyservice ca-sign next.csr --root root.pem "
    "--root-token root-token.toml --out next.pem"
)
def ca_sign(
    csr: Annotated[Path, typer.Argument(help="Request from `finsecure ca prepare`.")],
    root: Annotated[Path, typer.Option(help="Root certificate.")],
    root_token: Annotated[Path, typer.Option(help="File (TOML) that names the root's token.")],
    out: Annotated[Path, typer.Option(help="New file for the certificate.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days of validity.")] = 1825,
) -> None:
    """Sign a request with the root's key in a token. Needs no network and no service.

    Where that key lies in a file, `finsecure ca sign` does it.
    """
    place = load(root_token, RootToken)
    made = sign_request(
        csr, root, partial(open_root_key, place), out, system_clock(), timedelta(days=days)
    )
    typer.echo(f"{out}: {made.subject.rfc4514_string()}, until {made.not_valid_after_utc}")


@app.command(epilog="Example: finsecure-keyservice rotate-audit-key --config keyservice.toml")
def rotate_audit_key(config: Config, share_file: ShareFiles = None) -> None:
    """Make a new key that signs the audit log's checkpoints; the service may be running.

    The former key announces it in the log and signs nothing more. Who follows the log goes over to
    the new key without being told; give it to those who will pin it.
    """
    settings, files = _unlocked(config, share_file)
    key = audit_key_rotation.rotate_audit_key(settings, system_clock(), files)
    typer.echo(f"audit log's key     {key}   (for `finsecure audit --key`)")


@app.command(epilog="Example: finsecure-keyservice unseal --config keyservice.toml")
def unseal(config: Config, share_file: ShareFiles = None) -> None:
    """Give a share to the sealed service on this machine, whose certificate may have expired.

    Operators elsewhere use `finsecure unseal`.
    """
    settings = load(config, Configuration)
    typer.echo(asyncio.run(local.unseal(settings, asked_shares(share_file or ()))))


@app.command(epilog="Example: finsecure-keyservice reshare --config F --share-file A")
def reshare(config: Config, share_file: ShareFiles = None) -> None:
    """Make new shares, or the first ones; the former open nothing more. The service may be running.

    How many, and where their files go, is in the section [seal] of the configuration.
    A running one makes no keys until it was sealed and unsealed with the new shares.
    """
    settings = load(config, Configuration)
    _print_shares(resharing.reshare(settings, share_file or (), system_clock()))
    _print_key_backup(settings)


@app.command(epilog="Example: finsecure-keyservice end-seal --config F --share-file A")
def end_seal(config: Config, share_file: ShareFiles = None) -> None:
    """Let the key or the PIN of [protection] lie open again; then take [seal] out."""
    settings = load(config, Configuration)
    path = resharing.end_seal(settings, share_file or (), system_clock())
    typer.echo(f"{path} lies open; take the section [seal] out of {config}")
    _print_key_backup(settings)


def _unlocked(config: Path, share_files: list[Path] | None) -> tuple[Configuration, SecretFiles]:
    """What a command that needs the service's keys works with."""
    settings = load(config, Configuration)
    return settings, unlock(settings, share_files or ())


def _print_shares(paths: tuple[Path, ...]) -> None:
    for path in paths:
        typer.echo(f"operator's share    {path}   (give it to one operator; then delete it)")


def _print_key_backup(settings: Configuration) -> None:
    path = settings.protected_by.secret_file
    typer.echo(f"key backup          {path} has changed: copy it there again, in place of the")
    typer.echo("                    former copy; destroy former shares only after that")


def main() -> None:
    """Run the command line."""
    console.run(app)
