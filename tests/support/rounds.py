"""What a round must have made, worked out from the clients' plain vectors."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from finsecure_crypto.federation import training_result
from safetensors.numpy import load

from tests.support.federation import Federation, terms_of


def expected_result(
    federation: Federation, round_name: str, spec: Any, banks: Iterable[str]
) -> Any:
    """The plain computation: add the vectors of the survivors, decode, divide."""
    terms = terms_of(spec)
    clients = [federation.clients[bank] for bank in banks]
    total = np.zeros_like(clients[0].plain[round_name])
    for client in clients:
        total += client.plain[round_name]
    layout = clients[0]._layouts[round_name][0]
    sums = layout.decode(total, len(clients))
    return training_result(terms, sums)


async def check_average_round(
    federation: Federation, task: str, spec: Any, survivors: set[str]
) -> None:
    """The last round of a task with plain averaging is exactly what its survivors' data make."""
    done = (await federation.history(task))[-1]
    submitted = next(p for p in done.phases if p.phase == 3)
    assert set(submitted.clients) == survivors
    result = expected_result(federation, done.name, spec, sorted(survivors))
    base = load(await federation.download(task, done.base_model.rsplit("/", 1)[1]))
    made_file = await federation.download(task, done.result_model.rsplit("/", 1)[1])
    made = load(made_file)
    at = 0
    for tensor in terms_of(spec).tensors:
        moved = base[tensor.name].astype(np.float64).ravel()
        moved = moved + result.mean_update[at : at + tensor.size]
        at += tensor.size
        np.testing.assert_array_equal(
            made[tensor.name], moved.astype(np.float32).reshape(tensor.shape)
        )
    assert done.metrics.total_weight == result.metrics.total_weight
    assert done.metrics.training_examples == result.metrics.training_examples
    assert done.metrics.validation_examples == result.metrics.validation_examples
    assert done.metrics.loss == result.metrics.loss
    assert done.metrics.accuracy == result.metrics.accuracy
    assert done.metrics.auc == (result.metrics.auc or 0)
    for _ in range(100):
        if not masked_inputs(federation):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(masked_inputs(federation))


def masked_inputs(federation: Federation) -> list[str]:
    """Files of masked inputs that the aggregator has."""
    folder = federation.folder / "aggregator" / "blobs" / "inputs"
    return [str(Path(at) / file) for at, _, files in os.walk(folder) for file in files]
