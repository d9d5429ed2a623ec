"""`finsecure demo`."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[
        Path, typer.Option(help="New folder for everything that the demo makes.")
    ] = Path("demo-out"),
) -> None:
    """Train one model across five banks, every update masked, and show the result."""
