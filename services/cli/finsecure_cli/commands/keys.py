"""`finsecure keys`: the keys that the key service holds, to sign models and wrap data keys."""

import base64
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.secret import SecretBytes
from finsecure_rpc.durable import read_secret, write_file

from finsecure_cli import managed_key_transport as transport
from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.convert import Document
from finsecure_cli.output import JsonOption, print_json, print_table, short_time
from finsecure_cli.settings import DEFAULT_FILE

app = typer.Typer(no_args_is_help=True, help="Make, rotate and destroy keys that sign and wrap.")


class Purpose(StrEnum):
    """What a key is for."""

    MODEL_SIGNING = "model-signing"
    DATA_ENCRYPTION = "data-encryption"


class Algorithm(StrEnum):
    """What a key is."""

    ED25519 = "ed25519"
    RSA_4096_PSS_SHA512 = "rsa-4096-pss-sha512"
    ML_DSA_65 = "ml-dsa-65"
    AES_256_GCM = "aes-256-gcm"


class Change(StrEnum):
    """What may be done to a version that has no command of its own."""

    ENABLE = "enable"
    DEACTIVATE = "deactivate"
    COMPROMISE = "compromise"


KeyArgument = Annotated[str, typer.Argument(help="RING/KEY, such as models/global.")]
VersionOption = Annotated[int, typer.Option("--version", help="Number of the version.", min=1)]
ReasonOption = Annotated[str, typer.Option(help="Why, for the record.")]


@app.command(epilog="Example: finsecure keys ring models")
def ring(
    name: Annotated[str, typer.Argument(help="Id of the new ring.")],
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Open a key ring."""
    made = with_services(config, lambda services: transport.create_ring(services, name))
    _say(made, json, f"{made['name']} is open")


@app.command(epilog="Example: finsecure keys create models/global --rotate-days 90")
def create(
    key: KeyArgument,
    purpose: Annotated[Purpose, typer.Option(help="What it is for.")] = Purpose.MODEL_SIGNING,
    algorithm: Annotated[Algorithm, typer.Option(help="What it is.")] = Algorithm.ED25519,
    rotate_days: Annotated[
        int | None, typer.Option(help="Days after which it rotates by itself.", min=1, max=3650)
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Create a key in a ring; its first version is made at once."""
    made = with_services(
        config,
        lambda services: transport.create_key(
            services, key, _enum(purpose), _enum(algorithm), rotate_days
        ),
    )
    _say(made, json, made["name"])


@app.command("list", epilog="Examples: finsecure keys list\n\nfinsecure keys list models/global")
def list_(
    key: Annotated[
        str | None, typer.Argument(help="RING/KEY, to list its versions; none lists the keys.")
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """List the keys of all rings, or the versions of one key."""
    if key is None:
        found = with_services(config, transport.list_keys)
    else:
        found = with_services(config, lambda services: transport.list_versions(services, key))
    if json:
        print_json(found)
    elif key is None:
        print_table(
            ("key", "purpose", "algorithm", "primary", "rotates", "created"),
            [
                (
                    _short(item["name"]),
                    item["purpose"],
                    item["algorithm"],
                    item["primary"].rpartition("/")[2],
                    short_time(item, "next_rotation_time"),
                    short_time(item, "create_time"),
                )
                for item in found
            ],
            empty="There is no key yet: finsecure keys ring RING, finsecure keys create RING/KEY",
        )
    else:
        print_table(
            ("version", "state", "private key", "made", "destroyed", "SHA-256 of the public key"),
            [
                (
                    item["name"].rpartition("/")[2],
                    item["state"],
                    item["protection"] + (", imported" if item["imported"] else ""),
                    short_time(item, "generate_time"),
                    short_time(item, "destroy_time"),
                    item["public_key_sha256"],
                )
                for item in found
            ],
            empty="There is no version.",
        )


@app.command(epilog="Example: finsecure keys rotate models/global")
def rotate(key: KeyArgument, json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """Make a new version, which takes over; the one before still verifies and opens."""
    made = with_services(config, lambda services: transport.rotate(services, key))
    _say(made, json, made["name"])


@app.command(
    "set", epilog="Example: finsecure keys set models/global enable --version 3 --reason x"
)
def set_(
    key: KeyArgument,
    change: Annotated[Change, typer.Argument(help="What to do to the version.")],
    version: VersionOption,
    reason: ReasonOption,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Enable or deactivate a version, or say that it was compromised, which is for good."""
    _change(key, version, change.value, reason, json, config)


@app.command(epilog="Example: finsecure keys disable models/global --version 3 --reason drill")
def disable(
    key: KeyArgument,
    version: VersionOption,
    reason: ReasonOption,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Put a version out of use; `finsecure keys set KEY enable` brings it back."""
    _change(key, version, "disable", reason, json, config)


@app.command(epilog="Example: finsecure keys destroy models/global --version 1 --reason 'retired'")
def destroy(
    key: KeyArgument,
    version: VersionOption,
    reason: ReasonOption,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Schedule the destruction of a version. Needs two security officers: finsecure approval."""
    found = with_services(
        config, lambda services: transport.destroy(services, key, version, reason)
    )
    _say(found, json, f"{found['name']} will be destroyed at {found['destroy_time']}")


@app.command(epilog="Example: finsecure keys restore models/global --version 1 --reason 'in use'")
def restore(
    key: KeyArgument,
    version: VersionOption,
    reason: ReasonOption,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Take back the destruction of a version; it is disabled then."""
    _change(key, version, "restore", reason, json, config)


@app.command(epilog="Example: finsecure keys public models/global --version 3 --out key.pem")
def public(
    key: KeyArgument,
    version: VersionOption,
    out: Annotated[
        Path | None, typer.Option(help="New file for it; without one it is printed.")
    ] = None,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Print the public key of a version, PEM."""
    if out is not None and out.exists():
        raise ConfigurationError("FILE_EXISTS", f"{out} exists; name a new file")
    der = with_services(config, lambda services: transport.public_key(services, key, version))
    text = base64.b64encode(der).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    pem = "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----"])
    if out is None:
        typer.echo(pem)
    else:
        out.write_text(pem + "\n")


@app.command(epilog="Example: finsecure keys wrap models/global --key-file key.der --out wrapped")
def wrap(
    key: KeyArgument,
    key_file: Annotated[
        Path, typer.Option(help="PKCS#8 DER without a password, or 32 bytes of an AES key.")
    ],
    out: Annotated[Path, typer.Option(help="New file for the wrapped key.")],
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Encrypt a key that exists for the key service, which can open it for a day."""
    if out.exists():
        raise ConfigurationError("FILE_EXISTS", f"{out} exists; name a new file")
    try:
        material = SecretBytes(read_secret(key_file))
    except OSError as error:
        raise _unreadable(key_file, error) from error
    wrapped = with_services(config, lambda services: transport.wrap_key(services, key, material))
    write_file(out, wrapped)
    typer.echo(f"{out} holds a key for {key}; SHA-256 {transport.wrapped_digest(wrapped)}")


@app.command("import", epilog="Example: finsecure keys import wrapped")
def import_(
    wrapped: Annotated[Path, typer.Argument(help="File made by `finsecure keys wrap`.")],
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Bring in a wrapped key as a new version, which takes over at once; two officers."""
    try:
        content = wrapped.read_bytes()
    except OSError as error:
        raise _unreadable(wrapped, error) from error
    made = with_services(config, lambda services: transport.import_key(services, content))
    _say(made, json, made["name"])


def _unreadable(file: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        "FILE_UNREADABLE", f"{file} cannot be read ({error.strerror}); name another file"
    )


def _change(key: str, version: int, change: str, reason: str, json: bool, config: Path) -> None:
    found = with_services(
        config, lambda services: transport.change(services, key, version, change, reason)
    )
    _say(found, json, f"{found['name']} is {found['state']}")


def _say(made: Document, json: bool, text: str) -> None:
    if json:
        print_json(made)
    else:
        typer.echo(text)


def _enum(value: StrEnum) -> str:
    return value.value.replace("-", "_")


def _short(name: str) -> str:
    _, _, _, ring, _, key = name.split("/")
    return f"{ring}/{key}"
