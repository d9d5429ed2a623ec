"""The demonstration's course, by the same entry points that an operator and a bank use."""

import asyncio
import json
import os
import re
import secrets
import shutil
import socket
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from finsecure_crypto.errors import ConfigurationError, StateError
from finsecure_rpc.config import load
from rich.live import Live

from finsecure_cli import dealer
from finsecure_cli.ceremony_transport import (
    THRESHOLD,
    Trustees,
    fetch_cards,
    import_dealt,
    run_ceremony,
)
from finsecure_cli.commands.model import save_models
from finsecure_cli.commands.task import create_task
from finsecure_cli.convert import Document
from finsecure_cli.demo.comparison import Mode
from finsecure_cli.demo.outage import Outage
from finsecure_cli.deployment import Deployment, bring_up, initialise
from finsecure_cli.initial import build_initial_model
from finsecure_cli.key_transport import key_name
from finsecure_cli.output import CONSOLE
from finsecure_cli.processes import ServiceProcess, run_command, run_python
from finsecure_cli.progress import TaskProgress
from finsecure_cli.supervisor import Supervisor
from finsecure_cli.task_file import TaskFile
from finsecure_cli.templates import Plan
from finsecure_cli.transport import Services

FEDERATION = "lending"
DOMAIN = "finsecure.internal"
BANKS = ("bank-a", "bank-b", "bank-c", "bank-d", "bank-e")
# The bank with the most loans trains longest, so it is most likely to be caught while training.
VICTIM = "bank-b"
EGRESS_OF = "bank-a"
TRUSTEES = ("trustee-1", "trustee-2", "trustee-3")
KEY = "demo"
_PAILLIER_BITS = 2048
_PORTS = range(20_000, 32_000)
_KILL_ROUND = 8
_KEPT = "earlier"


@dataclass(frozen=True)
class Findings:
    """What the demonstration has shown; `as_document` is stored beside the report.

    Attributes:
        task: the task at its end.
        rounds: all rounds, oldest first.
        scores: what the example's evaluation measured on the test set.
        egress: what has left one bank, as `finsecure client egress --json` says.
        events: what happened, as (seconds since the start, words).
        missed_round: round that completed without the killed bank; empty if none was killed.
        seconds: wall time by stage.
        mode: how updates were protected.
    """

    task: Document
    rounds: list[Document]
    scores: Document
    egress: Document
    events: list[tuple[float, str]]
    missed_round: str
    seconds: dict[str, float]
    mode: Mode = "masks"

    def as_document(self) -> Document:
        """Return everything as JSON-able values."""
        return dict(vars(self))


@dataclass
class Demonstration:
    """One run.

    Attributes:
        out: folder for everything that is made.
        example: folder of the example.
        rounds: training rounds.
        kill: whether a bank is killed on the way.
        mode: how updates are protected.
    """

    out: Path
    example: Path
    rounds: int
    kill: bool
    mode: Mode = "masks"
    events: list[tuple[float, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    _start: float = field(default_factory=time.monotonic)

    async def run(self) -> Findings:
        """Run from an empty folder to the findings; stops all processes whatever happens."""
        supervisor = Supervisor(self._say)
        processes: dict[str, ServiceProcess] = {}

        def started(process: ServiceProcess) -> None:
            supervisor.add(process)
            processes[process.name] = process

        deployment = Deployment(self.out / "federation")
        try:
            with self._stage("set-up"):
                await self._write_files(deployment)
                await bring_up(deployment, clients=True, started=started, say=self._say)
            async with Services(deployment.operator, wait_for_ready=True) as services:
                task_file = load(deployment.folder / "task.toml", TaskFile)
                if task_file.security.protection != self.mode:
                    raise ConfigurationError(
                        "EXAMPLE_UNSUITABLE",
                        f"the example's task could not be changed to {self.mode}; give it a "
                        "[security] section with a profile",
                    )
                if self.mode != "masks":
                    with self._stage("key ceremony"):
                        await self._make_key(services, deployment)
                with self._stage("training"):
                    task, missed = await self._train(services, task_file, deployment, processes)
                rounds = await services.list_rounds(task_file.name)
                models = self.out / "models"
                models.mkdir()
                with self._stage("download"):
                    saved = await save_models(services, task_file.name, "all", models)
                self._say(f"{len(saved)} model versions downloaded, each one verified")
            egress = json.loads(await self._egress(deployment))
        finally:
            with self._stage("stop"):
                await supervisor.stop()
        with self._stage("evaluation"):
            self._say("scoring on the test set; training local and central models to compare")
            scores = await self._evaluate(deployment)
        return Findings(task, rounds, scores, egress, self.events, missed, self.seconds, self.mode)

    async def _write_files(self, deployment: Deployment) -> None:
        """Write what an operator and the banks would: configurations, each bank's data, code."""
        ports = _free_ports(3)
        plan = Plan(FEDERATION, DOMAIN, BANKS, "127.0.0.1", *ports)
        if self.mode != "masks":
            plan = replace(plan, trustees=TRUSTEES, trustee_port=_free_run(len(TRUSTEES)))
        initialise(deployment.folder, plan)
        folder = deployment.folder
        split = [str(self.example / "split.py"), "--by", "grade", "--out", str(folder / "data")]
        self._say((await run_python([*split, "--test", str(self.out / "test.csv")])).strip())
        shutil.copy(self.example / "model.py", folder / "models")
        task = (self.example / "task.toml").read_text()
        task = re.sub(r"(?m)^rounds = \d+", f"rounds = {self.rounds}", task)
        if self.mode != "masks":
            security = f'protection = "{self.mode}"\nencryption_key = "{KEY}"'
            task = re.sub(r"(?m)^profile = .*$", security, task)
        (folder / "task.toml").write_text(task)

    async def _make_key(self, services: Services, deployment: Deployment) -> None:
        """Let the trustees make the encryption key, or a dealer where the scheme needs one."""
        async with Trustees(deployment.operator) as trustees:
            if self.mode == "paillier":
                cards = await fetch_cards(services, trustees)
                name = key_name(services.federation, KEY)
                dealt = await asyncio.to_thread(dealer.deal, name, _PAILLIER_BITS, THRESHOLD, cards)
                made = await import_dealt(services, trustees, dealt)
                self._say(f"a dealer made {made['name']} and sealed a share to each trustee")
            else:
                state = deployment.folder / f"{KEY}.ceremony.json"
                made = await run_ceremony(services, trustees, KEY, self.mode, state, self._say)
                self._say(f"the trustees made {made['name']}; nobody ever had the secret key")

    async def _train(
        self,
        services: Services,
        task_file: TaskFile,
        deployment: Deployment,
        processes: dict[str, ServiceProcess],
    ) -> tuple[Document, str]:
        initial = await asyncio.to_thread(
            build_initial_model,
            task_file.model.factory,
            task_file.inputs,
            (deployment.folder / "models",),
        )
        task = await create_task(services, task_file, initial)
        self._say(f"task {task['name']} is created; its initial model is uploaded")
        progress = TaskProgress()
        outage = None
        with Live(progress, console=CONSOLE, refresh_per_second=4, transient=True):

            def say(words: str) -> None:
                progress.note = words
                self._say(words)

            if self.kill:
                number = _KILL_ROUND if self.rounds >= _KILL_ROUND + 2 else max(1, self.rounds - 2)
                outage = Outage(processes[VICTIM], number, task_file.cohort.minimum, say)
            async for task, round_ in services.watch_task(task_file.name):
                progress.update(task, round_)
                if outage is not None and round_ is not None:
                    outage.see(round_)
        if task["state"] != "completed":
            raise StateError(
                "DEMO_FAILED",
                f"the task ended as {task['state']}: {task['state_detail']}; the logs are in "
                f"{deployment.folder / 'logs'}",
            )
        self._say(f"{task['completed_rounds']} rounds are done")
        return task, outage.missed if outage is not None else ""

    async def _egress(self, deployment: Deployment) -> str:
        config = str(deployment.clients[EGRESS_OF])
        return await run_command(["finsecure-client", "egress", "--config", config, "--json"])

    async def _evaluate(self, deployment: Deployment) -> Document:
        out = self.out / "scores.json"
        await run_python(
            [
                str(self.example / "evaluate.py"),
                *("--task", str(deployment.folder / "task.toml")),
                *("--banks", str(deployment.folder / "data")),
                *("--test", str(self.out / "test.csv")),
                *("--models", str(self.out / "models")),
                *("--out", str(out)),
            ]
        )
        scores: Document = json.loads(out.read_text())
        return scores

    def _say(self, words: str) -> None:
        seconds = time.monotonic() - self._start
        for line in words.splitlines():
            self.events.append((round(seconds, 1), line))
            CONSOLE.print(f"[dim]{seconds:5.1f} s[/dim]  {line}")

    def _stage(self, name: str) -> "_Stage":
        return _Stage(name, self.seconds)


class _Stage:
    """Measures the wall time of a `with` block."""

    def __init__(self, name: str, seconds: dict[str, float]) -> None:
        self._name = name
        self._seconds = seconds

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] = round(time.monotonic() - self._start, 2)


def find_example(folder: Path | None) -> Path:
    """Return the folder of the example: the one named, or the one in the source tree.

    Raises:
        ConfigurationError: EXAMPLE_MISSING.
    """
    chosen = folder or Path(__file__).resolve().parents[4] / "examples" / "lending_club"
    if not (chosen / "task.toml").exists():
        raise ConfigurationError(
            "EXAMPLE_MISSING",
            f"{chosen} does not hold the example; run from a source checkout, or name the folder "
            "examples/lending_club with --example",
        )
    return chosen


def fresh_folder(out: Path) -> None:
    """Make an empty folder; what an earlier demonstration left is moved into `earlier/N`.

    Raises:
        ConfigurationError: OUT_OCCUPIED, where the folder holds something else.
    """
    out.mkdir(parents=True, exist_ok=True)
    present = [path for path in out.iterdir() if path.name != _KEPT]
    if not present:
        return
    if not (out / "federation").is_dir():
        raise ConfigurationError(
            "OUT_OCCUPIED", f"{out} holds something that is no demonstration; name a new folder"
        )
    kept = out / _KEPT
    kept.mkdir(exist_ok=True)
    number = 1 + max((int(p.name) for p in kept.iterdir() if p.name.isdigit()), default=0)
    (kept / str(number)).mkdir()
    for path in present:
        path.rename(kept / str(number) / path.name)


def _free_run(count: int) -> int:
    """Return the first of some loopback ports in a row that are free now.

    They lie below those that the system gives to outgoing connections, of which many are made
    before the last of the ports is listened on.
    """
    while True:
        first = _PORTS.start + secrets.randbelow(len(_PORTS) - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_ports(count: int) -> list[int]:
    """Return loopback ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def limit_threads() -> None:
    """Give each process one numerical thread: seven processes share this machine's cores."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
