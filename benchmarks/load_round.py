"""One round under load: a real aggregator process, thousands of clients, and what it cost."""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
from finsecure.aggregation.v1 import tasks_pb2
from finsecure_crypto.federation import RoundKind, Terms, training_result, unflatten
from numpy.typing import NDArray
from safetensors.numpy import load, save

from benchmarks.load_driver import Order, save_authority
from benchmarks.load_processes import Sampler, peak_mb, resident_mb
from tests.support.federation import Federation, task_name, task_spec, terms_of

_ROOT = Path(__file__).resolve().parents[1]
_TASK = "load"
_PHASE_S = 3600.0
_COMPLETE_SPARES = 0.33  # just under a third may be gone in the active profile
_PROFILES = {
    "active": tasks_pb2.SECURITY_PROFILE_ACTIVE,
    "semi_honest": tasks_pb2.SECURITY_PROFILE_SEMI_HONEST,
}

Told = Callable[[Counter[str]], None]
"""Is given the sum of all drivers' counts, again and again."""


@dataclass(frozen=True)
class Load:
    """What to run.

    Attributes:
        clients: n.
        coordinates: d, 16 bits each.
        kill: share of the clients that is killed, each at a random moment.
        profile: `active` or `semi_honest`.
        sparse: (gamma, delta) of the sparse graph; None is the complete one.
        drivers: processes that drive the clients.
        hold: let all inputs be masked before the first is uploaded, to time the uploads alone.
        folder: where the aggregator keeps its files; None is a fresh one in the temporary folder.

    Raises:
        ValueError: more clients are to be killed than the graph is made for. Whether such a round
            completes depends on who dies, and one that cannot waits for its deadline.
    """

    clients: int
    coordinates: int
    kill: float = 0.0
    profile: str = "active"
    sparse: tuple[float, float] | None = (0.05, 0.15)
    drivers: int = 2
    hold: bool = False
    folder: Path | None = None

    def __post_init__(self) -> None:
        most = int(self.clients * (self.sparse[1] if self.sparse else _COMPLETE_SPARES))
        if self.killed > most:
            raise ValueError(
                f"{self.killed} of {self.clients} clients are to be killed, the masking graph is "
                f"sure to withstand {most}: kill fewer, or raise the sparse graph's dropout"
            )

    @property
    def killed(self) -> int:
        """How many clients are killed."""
        return round(self.clients * self.kill)


@dataclass(frozen=True)
class PhaseCost:
    """One phase.

    Attributes:
        seconds: wall time.
        server_cpu_s: CPU seconds of the aggregator.
        driver_cpu_s: CPU seconds of the drivers, all clients together.
        server_mb: largest resident size of the aggregator.
        answers: messages that the aggregator has accepted.
    """

    seconds: float
    server_cpu_s: float
    driver_cpu_s: float
    server_mb: float
    answers: int


@dataclass(frozen=True)
class Outcome:
    """What one round came to; its sum was compared with the plain one.

    Attributes:
        load: what was run.
        phases: by name, `connect` and `unmask` among them.
        server_peak_mb: largest resident size of the aggregator.
        server_idle_mb: its resident size before the first client came.
        survivors: inputs in the sum.
        input_bytes: of one masked input.
        upload_s: from the first uploaded byte to the last accepted input.
        upload_server_cpu_s, upload_driver_cpu_s: CPU seconds meanwhile.
        sent, received: bytes of messages by client, of those that were not killed.
        repeated: calls that had to be made again.
    """

    load: Load
    phases: dict[str, PhaseCost]
    server_peak_mb: float
    server_idle_mb: float
    survivors: int
    input_bytes: int
    upload_s: float
    upload_server_cpu_s: float
    upload_driver_cpu_s: float
    sent: tuple[int, ...]
    received: tuple[int, ...]
    repeated: int

    @property
    def round_s(self) -> float:
        """Wall time from the first invitation to the new model version."""
        return sum(cost.seconds for name, cost in self.phases.items() if name != "connect")

    @property
    def ingest_mb_s(self) -> float:
        """Masked input that was taken, in MB (10^6 bytes) a second."""
        return self.survivors * self.input_bytes / 1e6 / self.upload_s


async def run(load_: Load, tell: Told) -> Outcome:
    """Runs one round and checks its sum.

    Raises:
        AssertionError: the round failed, or its sum is not the plain one.
    """
    with tempfile.TemporaryDirectory(prefix="finsecure-load-", dir=load_.folder) as folder:
        async with Federation(Path(folder), banks=0, settle_s=3600, grace_s=1) as federation:
            return await _Run(load_, federation, tell).outcome()


class _Run:
    def __init__(self, load_: Load, federation: Federation, tell: Told) -> None:
        self._load, self._federation, self._tell = load_, federation, tell
        self._spec = task_spec(
            minimum=max(2, load_.clients // 2),
            maximum=load_.clients,
            deadline_s=_PHASE_S,
            tensors={"parameters": (load_.coordinates,)},
            profile=_PROFILES[load_.profile],
            sparse=load_.sparse,
        )
        self._terms: Terms = terms_of(self._spec)
        self._counts: dict[int, Counter[str]] = {}
        self._marks: dict[str, float] = {}

    async def outcome(self) -> Outcome:
        federation = self._federation
        assert federation.process is not None
        server = federation.process.pid
        await self._create_task()
        idle_mb = resident_mb(server)
        save_authority(federation.pki, federation.folder)
        drivers = [await self._start(index) for index in range(self._load.drivers)]
        sampler = Sampler(server, [driver.pid for driver in drivers])
        sampling = asyncio.create_task(sampler.run())
        started = time.time()
        try:
            await self._follow(drivers)
            task = await federation.ended(_TASK, 300)
        finally:
            sampling.cancel()
            for driver in drivers:
                with contextlib.suppress(ProcessLookupError):
                    driver.kill()
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        round_ = (await federation.history(_TASK))[-1]
        summaries = [
            json.loads(path.read_text()) for path in federation.folder.glob("summary-*.json")
        ]
        survivors = {client for summary in summaries for client in summary["accepted"]}
        await self._check(round_, survivors)
        first, last = self._marks["first_byte"], self._marks["last_input"]
        upload_cpu = sampler.used(first, last)
        return Outcome(
            load=self._load,
            phases=_phases(round_, started, sampler),
            server_peak_mb=peak_mb(server),
            server_idle_mb=idle_mb,
            survivors=len(survivors),
            input_bytes=8 * self._terms.layout(RoundKind.TRAINING, self._load.clients).words,
            upload_s=last - first,
            upload_server_cpu_s=upload_cpu[0],
            upload_driver_cpu_s=upload_cpu[1],
            sent=tuple(size for summary in summaries for size in summary["sent"]),
            received=tuple(size for summary in summaries for size in summary["received"]),
            repeated=sum(summary["repeated"] for summary in summaries),
        )

    async def _create_task(self) -> None:
        federation = self._federation
        await federation.call(
            federation.tasks.CreateTask,
            tasks_pb2.CreateTaskRequest(
                task=tasks_pb2.Task(name=task_name(_TASK), spec=self._spec), request_id=str(uuid4())
            ),
        )
        # From zero, so that float32 shows every unit of the sum.
        zeros = np.zeros(self._load.coordinates, np.float32)
        await federation.upload_model(_TASK, save({"parameters": zeros}))

    async def _start(self, index: int) -> asyncio.subprocess.Process:
        load_, folder = self._load, self._federation.folder
        first = load_.clients * index // load_.drivers
        clients = load_.clients * (index + 1) // load_.drivers - first
        killed = load_.killed
        path = folder / f"order-{index}.json"
        Order(
            address=self._federation.address,
            task=task_name(_TASK),
            first=first,
            clients=clients,
            killed=killed * (index + 1) // load_.drivers - killed * index // load_.drivers,
            slots=clients if load_.hold else 4,
            hold=load_.hold,
            authority=str(folder),
        ).write(path)
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.load_driver",
            str(path),
            cwd=_ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )

    async def _follow(self, drivers: list[asyncio.subprocess.Process]) -> None:
        async with asyncio.TaskGroup() as reading:
            for index, driver in enumerate(drivers):
                reading.create_task(self._read(index, driver, drivers))

    async def _read(
        self,
        index: int,
        driver: asyncio.subprocess.Process,
        drivers: list[asyncio.subprocess.Process],
    ) -> None:
        assert driver.stdout is not None
        async for line in driver.stdout:
            self._counts[index] = Counter(json.loads(line))
            whole = sum(self._counts.values(), Counter())
            self._mark(whole, drivers)
            self._tell(whole)
        code = await driver.wait()
        assert code == 0, f"driver {index} ended with {code}"

    def _mark(self, whole: Counter[str], drivers: list[asyncio.subprocess.Process]) -> None:
        now, marks = time.time(), self._marks
        if self._load.hold:
            if "first_byte" not in marks and whole["masked"] == self._load.clients:
                marks["first_byte"] = now
                for driver in drivers:
                    assert driver.stdin is not None
                    driver.stdin.write(b"go\n")
        elif whole["masked"]:
            marks.setdefault("first_byte", now)
        if whole["submit_input"] > marks.get("inputs", 0):
            marks["inputs"] = whole["submit_input"]
            marks["last_input"] = now

    async def _check(self, round_: tasks_pb2.Round, survivors: set[str]) -> None:
        """Compares the new model with the one that the plain sum leads to, bit for bit."""
        submitted = next(
            phase for phase in round_.phases if phase.phase == tasks_pb2.ROUND_STATE_SUBMIT_INPUT
        )
        assert set(submitted.clients) == survivors
        folder = self._federation.folder
        totals: list[NDArray[np.uint64]] = [np.load(path) for path in folder.glob("sum-*.npy")]
        layout = self._terms.layout(RoundKind.TRAINING, len(round_.invited))
        sums = layout.decode(np.sum(totals, axis=0, dtype=np.uint64), len(survivors))
        expected = training_result(self._terms, sums)
        tensors = load(await self._federation.download(_TASK, "latest"))
        assert tensors["parameters"].any()
        for name, tensor in unflatten(self._terms, expected.mean_update).items():
            assert np.array_equal(tensors[name], tensor), "the sum is not the plain one"
        assert round_.metrics.training_examples == expected.metrics.training_examples
        assert round_.metrics.total_weight == expected.metrics.total_weight
        assert round_.metrics.loss == expected.metrics.loss


def _phases(round_: tasks_pb2.Round, started: float, sampler: Sampler) -> dict[str, PhaseCost]:
    spans = {"connect": (started, round_.start_time.ToNanoseconds() / 1e9, 0)}
    for phase in round_.phases:
        name = tasks_pb2.RoundState.Name(phase.phase).removeprefix("ROUND_STATE_").lower()
        spans[name] = (
            phase.open_time.ToNanoseconds() / 1e9,
            (phase.close_time if phase.HasField("close_time") else round_.end_time).ToNanoseconds()
            / 1e9,
            len(phase.clients),
        )
    return {
        name: PhaseCost(
            end - start, *sampler.used(start, end), sampler.peak_between(start, end), answers
        )
        for name, (start, end, answers) in spans.items()
    }
