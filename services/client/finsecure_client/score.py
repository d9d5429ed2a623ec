"""How a global model does on this client's own validation rows."""

import asyncio
from dataclasses import dataclass

from finsecure_crypto.federation import area_under_curve

from finsecure_client import sdk
from finsecure_client.config import ClientConfig
from finsecure_client.trainer import Assignment


@dataclass(frozen=True)
class Score:
    """What was measured; `auc` is None without a score histogram or with one class only."""

    task: str
    version: int
    examples: int
    loss: float
    accuracy: float
    auc: float | None


async def evaluate(config: ClientConfig, task: str, version: int | None) -> Score:
    """Download and verify a model version and evaluate it with the configured trainer."""
    trainer = config.make_trainer()
    async with sdk.connect(config) as client:
        status = await client.task(task)
        config.make_policy().check_task(status.task)
        model = await client.model(task, version)
        assignment = Assignment(status.task, model, status.completed_rounds)
        found = await asyncio.to_thread(trainer.evaluate, assignment)
    return Score(
        task=status.task.name,
        version=model.version,
        examples=found.examples,
        loss=found.loss_sum / found.examples,
        accuracy=found.correct / found.examples,
        auc=area_under_curve(found.scores) if len(found.scores) else None,
    )
