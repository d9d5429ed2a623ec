"""The arithmetic on a Ray cluster of two nodes, on this machine, through the loss of workers."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from finsecure_aggregator.accumulator import Accumulator
from finsecure_aggregator.arithmetic import open_slices
from finsecure_aggregator.config import Arithmetic
from finsecure_aggregator.process_slices import ProcessSlices
from finsecure_aggregator.slices import LocalSlices
from finsecure_crypto.errors import UnavailableError

from tests.support.ray_security import environment, shake_hands
from tests.support.slices import Round

ray = pytest.importorskip(
    "ray", reason="Ray is not installed: pip install 'finsecure[ray]' (make setup does it)"
)

pytestmark = pytest.mark.slow


class Remembering:
    """Opens slices on the cluster, and can reach the workers."""

    def __init__(self, slices):
        self.workers, self._slices, self.opened = slices.workers, slices, []

    def open(self, span):
        self.opened.append(self._slices.open(span))
        return self.opened[-1]


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    started = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    started.add_node(**node)
    started.wait_for_nodes()
    if "RAY_USE_TLS" in os.environ:  # set by the test of TLS below
        shake_hands(started.address)
    yield started
    started.shutdown()


@pytest.fixture(scope="module")
def connected(cluster):
    slices = open_slices(
        Arithmetic(backend="ray", workers=2, ray_address=cluster.address, silence_s=60)
    )
    yield slices
    slices.close()


@pytest.fixture
def slices(connected):
    return Remembering(connected)


def node_of(actor):
    def where(_actor):
        return ray.get_runtime_context().get_node_id()

    return ray.get(actor.__ray_call__.remote(where), timeout=60)


@pytest.mark.parametrize("words", [2, 7, 1001, 300_001, 2_500_001])
def test_the_cluster_agrees_with_the_plain_sum_and_the_other_back_ends(slices, tmp_path, words):
    made = Round(tmp_path, words)
    for each in (slices, LocalSlices(2), ProcessSlices(2, 60)):
        made.check(Accumulator(words, each, least_words=1))


def test_the_slices_lie_on_different_nodes_and_end_with_the_sum(slices, tmp_path):
    made = Round(tmp_path, words=100_001)
    accumulator = Accumulator(made.words, slices, least_words=1)
    for path in made.paths:
        accumulator.add_input(path)
    assert len({node_of(each.actor) for each in slices.opened}) == 2
    np.testing.assert_array_equal(accumulator.unmask(made.masks), made.total)
    for each in slices.opened:
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(each.actor.take.remote(0, 1), timeout=60)


@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_worker_is_replaced_and_its_slice_summed_again(slices, tmp_path, after):
    made = Round(tmp_path, words=100_001)
    accumulator = Accumulator(made.words, slices, least_words=1)
    for path in made.paths[:after]:
        accumulator.add_input(path)
    ray.kill(slices.opened[-1].actor, no_restart=True)
    for path in made.paths[after:]:
        accumulator.add_input(path)
    np.testing.assert_array_equal(accumulator.unmask(made.masks), made.total)
    assert len(slices.opened) == 3


def test_a_worker_killed_while_it_unmasks_is_replaced(slices, tmp_path):
    made = Round(tmp_path, words=400_001, inputs=2, masks=3000)
    accumulator = Accumulator(made.words, slices, least_words=1)
    for path in made.paths:
        accumulator.add_input(path)
    killer = threading.Timer(0.3, ray.kill, (slices.opened[0].actor,))
    killer.start()
    np.testing.assert_array_equal(accumulator.unmask(made.masks), made.total)
    killer.join()
    assert len(slices.opened) == 3


def test_a_node_that_is_lost_takes_no_round_with_it(cluster, slices, tmp_path):
    lost = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    cluster.wait_for_nodes()
    made = Round(tmp_path, words=100_001)
    slices.workers = 3  # one for each node
    accumulator = Accumulator(made.words, slices, least_words=1)
    for path in made.paths[:2]:
        accumulator.add_input(path)
    assert lost.node_id in {node_of(each.actor) for each in slices.opened}
    cluster.remove_node(lost, allow_graceful=False)
    accumulator.add_input(made.paths[2])
    np.testing.assert_array_equal(accumulator.unmask(made.masks), made.total)
    assert len(slices.opened) >= 4  # more, where the cluster still believed in the lost node


def test_a_cluster_that_does_not_answer_is_named(connected):
    connected.close()
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 ") as failure:
        open_slices(Arithmetic(backend="ray", ray_address="127.0.0.1:1"))
    assert failure.value.code == "CLUSTER_UNREACHABLE"


@pytest.mark.timeout(240)
def test_all_of_it_works_with_tls_and_a_token(tmp_path):
    # Ray reads its environment once in a process, so this takes another one. A node's address
    # is whatever Ray finds out, and has to be in its certificate.
    secured = environment(tmp_path, ray.util.get_node_ip_address())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", __file__, "-k", "killed_worker or 1001"],
        env={**os.environ, **secured},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert "3 passed" in done.stdout, done.stdout[-3000:]
