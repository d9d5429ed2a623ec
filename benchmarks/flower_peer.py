"""Flower's secure aggregation, run by the interpreter of its own environment; see `flower`.

Reads a JSON object with `clients`, `values`, `shares`, `threshold` and `dropouts` (per cent) from
its first argument and prints one with seconds. It uses nothing of this project.
"""

import copy
import json
import os
import sys
import time
from types import SimpleNamespace

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.client.mod.secure_aggregation import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.compat.common import recorddict_compat
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)
from flwr.supercore.task_identity import TaskIdentity

_MODULUS = 2**32
_COLLECT_STAGE = 2


def primitives(values: int, shares: int, threshold: int) -> dict[str, float]:
    """CPU seconds of each thing that the workflow's server and clients do many times."""
    (private, public), (_, other) = generate_key_pairs(), generate_key_pairs()
    private_bytes, other_bytes = private_key_to_bytes(private), public_key_to_bytes(other)
    assert public is not None
    seed, dimensions = os.urandom(32), [(1,), (values,)]
    vector = pseudo_rand_gen(seed, _MODULUS, dimensions)
    seed_shares = create_shares(seed, threshold, shares)
    key_shares = create_shares(private_bytes, threshold, shares)

    def mask() -> None:
        for total, part in zip(vector, pseudo_rand_gen(seed, _MODULUS, dimensions), strict=True):
            total + part

    return {
        "mask": _seconds(mask, 20),
        "agree": _seconds(
            lambda: generate_shared_key(
                bytes_to_private_key(private_bytes), bytes_to_public_key(other_bytes)
            ),
            20,
        ),
        "split_seed": _seconds(lambda: create_shares(seed, threshold, shares), 1),
        "split_key": _seconds(lambda: create_shares(private_bytes, threshold, shares), 1),
        "rebuild_seed": _seconds(lambda: combine_shares(seed_shares), 1),
        "rebuild_key": _seconds(lambda: combine_shares(key_shares), 1),
    }


def _seconds(work, repetitions: int) -> float:
    taken = []
    for _ in range(repetitions):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return sorted(taken)[len(taken) // 2]


class LocalGrid:
    """Hands the workflow's messages to clients in this process; keeps their time apart."""

    def __init__(self, clients: int, values: int, dropped: set[int]) -> None:
        self._contexts = {
            node: Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
            for node in range(1, clients + 1)
        }
        self._dropped = dropped
        self._stage = -1
        self._parameters = ndarrays_to_parameters([np.full(values, 0.5, np.float32)])
        self.client_seconds = 0.0

    def send_and_receive(self, messages, *, timeout=None):
        """Answers as each client would; the dropped ones are gone from the masked input on."""
        start = time.process_time()
        self._stage += 1
        answers = []
        for message in messages:
            node = message.metadata.dst_node_id
            # What a wire would do: each client has a copy of its own.
            message = copy.deepcopy(message)
            if self._stage >= _COLLECT_STAGE and node in self._dropped:
                answers.append(Message(Error(code=1), reply_to=message))
            else:
                answers.append(secaggplus_mod(message, self._contexts[node], self._train))
        self.client_seconds += time.process_time() - start
        return answers

    def _train(self, message, _context):
        result = FitRes(Status(Code.OK, ""), self._parameters, 1, {})
        return Message(recorddict_compat.fitres_to_recorddict(result, True), reply_to=message)


class Sample:
    """A strategy that asks every client and keeps the sum."""

    def __init__(self, clients: int, parameters) -> None:
        self._clients, self._parameters = clients, parameters
        self.result = None

    def configure_fit(self, _round, _parameters, _manager):
        """Asks every client."""
        return [
            (SimpleNamespace(node_id=node), FitIns(self._parameters, {}))
            for node in range(1, self._clients + 1)
        ]

    def aggregate_fit(self, _round, results, _failures):
        """Keeps what the server has decrypted."""
        self.result = results[0][1].parameters
        return None, {}


def workflow(clients: int, values: int, shares: int, threshold: int, percent: int) -> dict:
    """CPU seconds of one whole round of the workflow, server and mean client apart."""
    dropped = set(range(1, clients * percent // 100 + 1))
    parameters = ndarrays_to_parameters([np.zeros(values, np.float32)])
    state = RecordDict()
    state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
    state.array_records[MAIN_PARAMS_RECORD] = recorddict_compat.parameters_to_arrayrecord(
        parameters, True
    )
    base = Context(run_id=1, node_id=0, node_config={}, state=state, run_config={})
    strategy = Sample(clients, parameters)
    manager = SimpleNamespace(num_available=lambda: clients)
    context = LegacyContext(base, strategy=strategy, client_manager=manager)
    grid = LocalGrid(clients, values, dropped)
    start = time.process_time()
    SecAggPlusWorkflow(num_shares=shares, reconstruction_threshold=threshold, max_weight=1.0)(
        grid, context
    )
    total = time.process_time() - start
    assert strategy.result is not None, "the workflow stopped early"
    mean = parameters_to_ndarrays(strategy.result)[0]
    assert np.allclose(mean, 0.5, atol=0.01), mean[:5]
    return {"server": total - grid.client_seconds, "client": grid.client_seconds / clients}


def main() -> None:
    """Prints the figures of this run as JSON on the last line."""
    asked = json.loads(sys.argv[1])
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
    sizes = (asked["values"], asked["shares"], asked["threshold"])
    found = {
        "primitives": primitives(*sizes),
        "workflow": {
            str(percent): workflow(asked["clients"], *sizes, percent)
            for percent in asked["dropouts"]
        },
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
