"""`finsecure demo`: five banks train one model, and the report that shows it."""

import asyncio
import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from finsecure_crypto.errors import ConfigurationError

from finsecure_cli.demo.comparison import Mode, newest_runs
from finsecure_cli.demo.figures import completed_rounds
from finsecure_cli.demo.report import print_tables, write_page
from finsecure_cli.demo.scenario import (
    Demonstration,
    find_example,
    fresh_folder,
    limit_threads,
)
from finsecure_cli.output import CONSOLE

_NEEDED = ("torch", "pyarrow", "sklearn", "matplotlib")
_NEEDED_BY: dict[Mode, tuple[str, ...]] = {
    "masks": (),
    "paillier": ("gmpy2",),
    "bgv": ("seal",),
    "ckks": ("seal",),
}


def demo(
    out: Annotated[
        Path,
        typer.Option(help="Folder to write to; an earlier demo there is moved into earlier/."),
    ] = Path("demo-out"),
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Training rounds.")] = 20,
    mode: Annotated[
        Mode, typer.Option(help="How updates are protected: by masks, or encryption.")
    ] = "masks",
    no_kill: Annotated[
        bool, typer.Option("--no-kill", help="Do not kill a bank's process on the way.")
    ] = False,
    example: Annotated[
        Path | None,
        typer.Option(help="Folder of the example.", show_default="examples/lending_club"),
    ] = None,
) -> None:
    """Train one model across five banks, every update protected, and show the result.

    Starts a key service, an aggregator and five client daemons on this machine, each client with
    only its own slice of real loans; in a mode of encryption three trustees as well, which make the
    key. One bank is killed mid-round on the way and comes back. Needs the extras torch and demo,
    and homomorphic for the modes of encryption.
    """
    needed = (*_NEEDED, *_NEEDED_BY[mode])
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            "EXTRA_MISSING",
            f"the demo needs {', '.join(missing)}: pip install 'finsecure[torch,demo,homomorphic]'",
        )
    start = time.monotonic()
    folder = find_example(example)
    fresh_folder(out)
    limit_threads()
    demonstration = Demonstration(out.resolve(), folder, rounds, kill=not no_kill, mode=mode)
    findings = asyncio.run(demonstration.run())
    (out / "findings.json").write_text(json.dumps(findings.as_document(), indent=2) + "\n")
    from finsecure_cli.demo.picture import draw  # matplotlib takes a second to load

    draw(out / "report.png", findings.scores, completed_rounds(findings.rounds))
    runs = newest_runs(out)
    write_page(out / "report.html", findings, out / "report.png", runs)
    CONSOLE.print()
    print_tables(CONSOLE, findings, runs)
    CONSOLE.print(
        f"\nDone in {time.monotonic() - start:.0f} s. Open {out / 'report.html'}; "
        f"configurations, logs and models are in {out}."
    )
