"""kill -9 of servers and banks at random moments: the task ends, and each sum is the plain one.

The services run as they are shipped, each in a process of its own. Since a seeded bank trains the
same way again, every model of the history is worked out once more from the plain data.
"""

import asyncio
import random
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finsecure_cli.commands.task import create_task
from finsecure_cli.deployment import Deployment, bring_up
from finsecure_cli.initial import build_initial_model
from finsecure_cli.processes import ServiceProcess
from finsecure_cli.rounds import summed
from finsecure_cli.task_file import TaskFile
from finsecure_cli.transport import Services
from finsecure_client import config as client_config
from finsecure_client import sdk
from finsecure_client.terms import Task
from finsecure_client.trainer import Assignment, GlobalModel, Trainer
from finsecure_crypto.errors import UnavailableError
from finsecure_crypto.federation import capped_weight, flatten
from finsecure_crypto.quantisation import clip_norm
from finsecure_rpc.config import load
from numpy.typing import NDArray

from tests.support.lending_club import BANKS, write_files

ROUNDS = 12
# Enough kills for every service to die in every phase now and then, and for the task to go on.
UP_S, DOWN_S = (0.3, 5.0), (0.0, 2.0)


async def kill_now_and_then(
    processes: Sequence[ServiceProcess], services: Services, task: str, dice: random.Random
) -> None:
    """Kill one process after the other; each comes back.

    Four of five banks have to stay through a round, so one bank at most dies in each.
    """
    bank_died_in = -1
    while True:
        await asyncio.sleep(dice.uniform(*UP_S))
        servers, banks = processes[:2], processes[2:]
        victim = dice.choice([*servers, dice.choice(banks)])
        if victim in banks:
            try:
                done = (await services.get_task(task))["completed_rounds"]
            except UnavailableError:
                continue
            if done == bank_died_in:
                continue
            bank_died_in = done
        victim.kill()
        try:
            await asyncio.sleep(dice.uniform(*DOWN_S))
        finally:
            victim.start()


async def until_ended(services: Services, task: str) -> Any:
    """Read the task, over all restarts, until it has ended."""
    while True:
        with suppress(UnavailableError):
            found = await services.get_task(task)
            if found["state"] not in {"running", "awaiting_model"}:
                return found
        await asyncio.sleep(1)


def plain_mean(
    task: Task, base: GlobalModel, number: int, trainers: Sequence[Trainer]
) -> NDArray[np.float64]:
    """The weighted mean of the updates that these banks make from this model."""
    terms = task.terms
    total, weights = np.zeros(terms.coordinates), 0
    for trainer in trainers:
        trained = trainer.train(Assignment(task, base, number))
        update = flatten(terms, dict(trained.tensors)) - flatten(terms, base.tensors)
        update = clip_norm(update, terms.clip_norm).clip(-terms.clip_value, terms.clip_value)
        weight = capped_weight(terms, trained.examples)
        total += weight * update
        weights += weight
    return total / weights


async def check_models(deployment: Deployment, rounds: Sequence[Any], task_name: str) -> None:
    """Each model is the one before plus the mean update of just the banks that were summed."""
    configs = {bank: client_config.read(path) for bank, path in deployment.clients.items()}
    trainers = {bank: config.make_trainer() for bank, config in configs.items()}
    async with sdk.connect(configs["bank-a"]) as client:
        task = (await client.task(task_name)).task
        for round_ in rounds:
            if round_["kind"] != "training":
                continue
            base, made = [
                await client.model(task_name, int(round_[name].rpartition("/")[2]))
                for name in ("base_model", "result_model")
            ]
            mean = plain_mean(
                task, base, round_["number"], [trainers[bank] for bank in summed(round_)]
            )
            step = flatten(task.terms, made.tensors) - flatten(task.terms, base.tensors)
            # 16 bits over ±clip_value, rounded once for each bank and weighed up to weight_cap.
            grain = 2 * task.terms.clip_value / (2**task.terms.value_bits - 1)
            least = min(trainers[bank].train(Assignment(task, base, 1)).examples for bank in BANKS)
            np.testing.assert_allclose(
                step, mean, rtol=0, atol=grain * task.terms.weight_cap / least + 1e-6
            )


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_task_survives_any_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    seed = random.SystemRandom().randrange(2**32)
    print("seed of the kills:", seed, file=sys.stderr)
    deployment = Deployment(tmp_path / "federation")
    processes: list[ServiceProcess] = []
    killing: asyncio.Task[None] | None = None
    try:
        await write_files(deployment, rounds=ROUNDS)
        await bring_up(deployment, clients=True, started=processes.append)
        async with Services(deployment.operator, wait_for_ready=True) as services:
            task_file = load(deployment.folder / "task.toml", TaskFile)
            initial = await asyncio.to_thread(
                build_initial_model,
                task_file.model.factory,
                task_file.inputs,
                (deployment.folder / "models",),
            )
            await create_task(services, task_file, initial)
            killing = asyncio.create_task(
                kill_now_and_then(processes, services, task_file.name, random.Random(seed))
            )
            task = await asyncio.wait_for(until_ended(services, task_file.name), 600)
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
            assert task["state"] == "completed", task["state_detail"]
            rounds = [
                round_
                for round_ in await services.list_rounds(task_file.name)
                if round_["state"] == "completed"
            ]
            assert [round_["number"] for round_ in rounds] == list(range(ROUNDS + 1))
            assert not any(round_["blamed"] for round_ in rounds)
            await check_models(deployment, rounds, task_file.name)
        for process in processes:
            assert "Traceback" not in process.log.read_text(), process.log
    finally:
        if killing is not None:
            killing.cancel()
        for process in processes:
            process.kill()
