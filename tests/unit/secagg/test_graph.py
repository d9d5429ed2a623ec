import math
import time
from fractions import Fraction

import numpy as np
import pytest
from finsecure_crypto.secagg.graph import Graph
from finsecure_crypto.secagg.parameters import Thresholds
from finsecure_crypto.secagg.sparse_search import (
    CORRECTNESS_BITS,
    DENSEST,
    SECURITY_BITS,
    search,
)

KNOWN_ANSWERS = [
    (100, 0.05, 0.33, False, (28, 6)),
    (100, 0.05, 0.33, True, (72, 39)),
    (1000, 0.05, 0.33, False, (72, 24)),
    (1000, 0.05, 0.33, True, (398, 223)),
    (1000, 0.33, 0.05, False, (78, 60)),
    (1000, 0.33, 0.05, True, (132, 109)),
    (1000, 0.33, 0.33, False, (286, 150)),
    (1000, 0.33, 0.33, True, None),
    (10**6, 0.05, 0.33, False, (102, 34)),
    (10**6, 0.05, 0.33, True, (970, 545)),
]


@pytest.mark.parametrize(("size", "corrupt", "dropout", "active", "answer"), KNOWN_ANSWERS)
def test_known_answers(size, corrupt, dropout, active, answer):
    assert search(size, corrupt, dropout, active) == answer


def test_search_is_fast_for_a_million_clients_even_where_nothing_fits():
    search.cache_clear()
    started = time.process_time()
    search(10**6, 0.3333, 0.3333, True)
    search(10**6, 0.05, 0.33, True)
    assert time.process_time() - started < 10


def tail(size: int, marked: int, draws: int, values: range) -> Fraction:
    ways = sum(
        math.comb(marked, value) * math.comb(size - marked, draws - value) for value in values
    )
    return Fraction(ways, math.comb(size, draws))


def slow_search(size, corrupt_fraction, dropout_fraction, active):
    """The definition, with exact fractions and every k in turn."""
    gamma, delta = Fraction(str(corrupt_fraction)), Fraction(str(dropout_fraction))
    corrupt = math.floor(gamma * size)
    gone = corrupt + math.floor(delta * size)
    left = math.ceil((1 - delta) * size)
    secrecy, correctness = Fraction(1, 2 ** (SECURITY_BITS + 1)), Fraction(1, 2**CORRECTNESS_BITS)
    for k in range(2, size - 1, 2):
        if k > DENSEST * size:
            break
        cut = Fraction(0)
        if k <= gone:
            cut = Fraction(
                size * (size - k - 1) * math.factorial(gone) * math.factorial(size - k),
                2 * math.factorial(size) * math.factorial(gone - k),
            )
        if cut >= secrecy:
            continue
        low = next(
            t for t in range(k + 1) if tail(size, corrupt, k, range(t + 1, k + 1)) <= secrecy / size
        )
        if active:
            low = math.ceil((low + k - Fraction(5, 4)) / 2)
        high = max(t for t in range(k + 1) if tail(size, left, k, range(t)) < correctness / size)
        if max(low + 1, 2) <= high:
            return k, max(low + 1, 2)
    return None


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize(
    "fractions", [(0.0, 0.05), (0.05, 0.1), (0.1, 0.3), (0.2, 0.2), (0.3, 0.1)]
)
@pytest.mark.parametrize("size", [3, 7, 20, 41, 64, 90])
def test_search_agrees_with_its_definition(size, fractions, active):
    assert search(size, *fractions, active) == slow_search(size, *fractions, active)


def sparse(size: int, neighbours: int, seed: bytes = b"roster") -> Graph:
    return Graph.build(Thresholds(size, neighbours, 2), seed)


@pytest.mark.parametrize(("size", "neighbours"), [(5, 2), (12, 4), (13, 10), (50, 8)])
def test_sparse_graph_is_regular_symmetric_and_connected(size, neighbours):
    graph = sparse(size, neighbours)
    around = {index: set(graph.neighbours(index).tolist()) for index in range(size)}
    for index, peers in around.items():
        assert len(peers) == neighbours
        assert index not in peers
        assert graph.neighbours(index).tolist() == sorted(peers)
        assert all(index in around[peer] for peer in peers)
        assert graph.holders(index).tolist() == sorted(peers)
    reached, edge = {0}, [0]
    while edge:
        new = around[edge.pop()] - reached
        reached |= new
        edge += new
    assert len(reached) == size


def test_complete_graph_holds_its_own_share():
    graph = Graph.build(Thresholds(6, 5, 4), b"roster")
    assert graph.neighbours(2).tolist() == [0, 1, 3, 4, 5]
    assert graph.holders(2).tolist() == [0, 1, 2, 3, 4, 5]


def test_sparse_graph_depends_on_the_roster_and_on_nothing_else():
    one, same, other = sparse(50, 8), sparse(50, 8), sparse(50, 8, b"another roster")
    assert all(np.array_equal(one.neighbours(index), same.neighbours(index)) for index in range(50))
    assert any(
        not np.array_equal(one.neighbours(index), other.neighbours(index)) for index in range(50)
    )


@pytest.mark.parametrize(("size", "neighbours"), [(6, 5), (5, 2), (13, 10), (50, 8)])
def test_holder_counts_agree_with_counting(size, neighbours):
    graph = sparse(size, neighbours)
    rng = np.random.default_rng(size)
    for _ in range(20):
        present = rng.random(size) < 0.6
        counted = [np.count_nonzero(present[graph.holders(index)]) for index in range(size)]
        assert graph.holder_counts(present).tolist() == counted
