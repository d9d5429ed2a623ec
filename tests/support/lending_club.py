"""The files of a federation of the example's five banks, or of some of them."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from finsecure_cli.deployment import Deployment, initialise
from finsecure_cli.processes import run_python
from finsecure_cli.templates import Plan

from tests.support.federation import free_port

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "lending_club"
BANKS = ("bank-a", "bank-b", "bank-c", "bank-d", "bank-e")


async def write_files(
    deployment: Deployment,
    *,
    rounds: int,
    banks: Sequence[str] = BANKS,
    trustees: Sequence[str] = (),
) -> None:
    """Write configuration on free ports, the banks' tables, their model and `task.toml`.

    Each bank trains with a seed of its own, so that what it gives can be worked out again.
    """
    folder = deployment.folder
    ports = (free_port() for _ in range(3))
    plan = Plan(
        "lending", "finsecure.internal", tuple(banks), "127.0.0.1", *ports, trustees=tuple(trustees)
    )
    initialise(folder, plan)
    _move_trustees(deployment, plan.trustee_port)
    split = [str(EXAMPLE / "split.py"), "--by", "grade", "--out", str(folder / "data")]
    await run_python([*split, "--test", str(folder / "test.csv")])
    shutil.copy(EXAMPLE / "model.py", folder / "models")
    text = re.sub(r"(?m)^rounds = \d+", f"rounds = {rounds}", (EXAMPLE / "task.toml").read_text())
    (folder / "task.toml").write_text(text)
    for number, path in enumerate(deployment.clients.values()):
        text = path.read_text()
        assert "[trainer]\n" in text
        path.write_text(text.replace("[trainer]\n", f"[trainer]\nseed = {number}\n"))


def _move_trustees(deployment: Deployment, first: int) -> None:
    """Give each trustee a free port; a plan counts up from the first."""
    files = [deployment.folder / name for name in ("operator.toml", "aggregator.toml")]
    for number, own in enumerate(deployment.trustees.values()):
        new = free_port()
        for path in (*files, own):
            path.write_text(path.read_text().replace(f":{first + number}", f":{new}"))
