"""`finsecure ceremony`: make encryption keys whose secret exists only as trustees' shares."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from finsecure_crypto.errors import ConfigurationError
from finsecure_rpc.enrolment import read_root

from finsecure_cli import ceremony_transport, dealer
from finsecure_cli.ceremony_transport import Trustees
from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.convert import Document
from finsecure_cli.key_transport import key_name
from finsecure_cli.output import JsonOption, print_json
from finsecure_cli.settings import DEFAULT_FILE, load_operator
from finsecure_cli.token_option import require_certificate
from finsecure_cli.transport import Services

app = typer.Typer(
    no_args_is_help=True,
    help="Make encryption keys whose secret exists only as shares of trustees.",
)

T = TypeVar("T")


class LatticeMode(StrEnum):
    """Schemes whose keys trustees make among themselves."""

    BGV = "bgv"
    CKKS = "ckks"


class Bits(StrEnum):
    """Sizes of Paillier keys."""

    B2048 = "2048"
    B3072 = "3072"


KeyArgument = Annotated[str, typer.Argument(help="Id of the new key, such as bgv-1.")]


def with_trustees(config: Path, act: Callable[[Services, Trustees], Awaitable[T]]) -> T:
    """Connect as the operator to the key service and to all trustees and run `act`."""
    require_certificate()

    async def work(services: Services) -> T:
        async with Trustees(load_operator(config)) as trustees:
            return await act(services, trustees)

    return with_services(config, work)


@app.command(epilog="Example: finsecure ceremony run bgv-1 --mode bgv")
def run(
    key: KeyArgument,
    mode: Annotated[LatticeMode, typer.Option(help="Scheme of the key.")],
    file: Annotated[
        Path | None,
        typer.Option(help="State between two steps; by default KEY.ceremony.json, here."),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Let the trustees make a key among themselves; nobody ever has the whole secret.

    All trustees have to be up. Run it again after an interruption and it goes on where it was. If a
    trustee was restarted meanwhile, delete the file and begin anew; under another id, where a
    trustee has finished already.
    """
    state = file or Path(f"{key}.ceremony.json")
    made = with_trustees(
        config,
        lambda services, trustees: ceremony_transport.run_ceremony(
            services, trustees, key, mode.value, state, lambda line: typer.echo(line, err=True)
        ),
    )
    _report(made, json)


@app.command(epilog="Example: finsecure ceremony endorse")
def endorse(
    key: Annotated[
        str | None, typer.Argument(help="Id of a key; none means all that are enabled.")
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Let trustees sign anew for the keys that they hold, after a change of the authority.

    Signatures under certificates of a revoked authority are not believed any more.
    """
    made = with_trustees(
        config,
        lambda services, trustees: ceremony_transport.endorse_again(services, trustees, key),
    )
    if json:
        print_json(made)
        return
    for item in made:
        typer.echo(f"{item['name']} is endorsed anew")


@app.command(epilog="Example: finsecure ceremony cards --out cards.json")
def cards(
    out: Annotated[Path, typer.Option(help="New file to carry to the dealer.")],
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Collect the trustees' certified keys for a dealer, who works offline."""
    collected = with_trustees(config, ceremony_transport.fetch_cards)
    _new(out)
    collected.write(out)
    for card in collected.cards:
        typer.echo(f"{card.trustee}  {card.sealing_key.hex()}")


@app.command(
    epilog="Example: finsecure ceremony deal paillier-1 --federation lending "
    "--cards cards.json --root root.pem --out dealt.json"
)
def deal(
    key: KeyArgument,
    federation: Annotated[str, typer.Option(help="Id of the federation.")],
    cards: Annotated[Path, typer.Option(help="File of `finsecure ceremony cards`.")],
    root: Annotated[Path, typer.Option(help="Root certificate, from a trusted hand.")],
    out: Annotated[Path, typer.Option(help="New file with the sealed shares.")],
    bits: Annotated[Bits, typer.Option(help="Size of the modulus.")] = Bits.B2048,
    threshold: Annotated[int, typer.Option(min=2, help="Trustees that open a sum.")] = 2,
) -> None:
    """Make a Paillier key as a DEALER, who has the whole secret key for a moment.

    Run it offline, on a machine that is switched off afterwards, with the trustees watching. It
    needs no network and no operator's identity. The key is marked as dealt for ever.
    """
    _new(out)
    taken = dealer.Cards.read(cards)
    taken.verify(read_root(root), datetime.now(UTC))
    name = key_name(f"federations/{federation}", key)
    typer.echo("making primes and shares ...", err=True)
    dealt = dealer.deal(name, int(bits.value), threshold, taken)
    dealt.write(out)
    typer.echo(f"{out}: {len(dealt.shares)} shares, each sealed to its trustee")
    typer.echo("carry it to the operator (finsecure ceremony import); switch this machine off")


@app.command("import", epilog="Example: finsecure ceremony import dealt.json")
def import_(
    file: Annotated[Path, typer.Argument(help="File of `finsecure ceremony deal`.")],
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Hand the sealed shares of a dealt key to the trustees, and register the key.

    Each trustee takes a dealt share only if its own configuration says so (dealt_keys). It may be
    run again after an interruption.
    """
    dealt = dealer.DealtKey.read(file)
    made = with_trustees(
        config,
        lambda services, trustees: ceremony_transport.import_dealt(services, trustees, dealt),
    )
    _report(made, json)


def _report(made: Document, json: bool) -> None:
    if json:
        print_json(made)
    else:
        typer.echo(f"{made['name']} is registered; its digest is {made['digest']}")


def _new(path: Path) -> None:
    if path.exists():
        raise ConfigurationError("FILE_EXISTS", f"{path} exists; name a new file")
