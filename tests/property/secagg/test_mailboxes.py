"""What is sent by row is read by column, for every graph and whoever is missing."""

import numpy as np
from finsecure_crypto.secagg.graph import Graph
from finsecure_crypto.secagg.mailboxes import Mailboxes
from finsecure_crypto.secagg.parameters import Thresholds
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.secagg import pieces

ITEM = 5


def item(sender, receiver):
    return b"%02d%02d." % (sender, receiver)


@st.composite
def graphs(draw):
    size = draw(st.integers(3, 20))
    degree = draw(st.sampled_from([*range(2, size - 1, 2), size - 1]))
    return Graph.build(Thresholds(size, degree, 2), draw(st.binary(min_size=1, max_size=4)))


@settings(deadline=None)
@given(graphs())
def test_the_adjacency_is_that_of_each_client(graph):
    size, adjacency = graph.thresholds.roster_size, graph.adjacency
    flat = adjacency.holders.reshape(-1)
    for index in range(size):
        assert np.array_equal(adjacency.holders[index], graph.holders(index))
        # Its places lie in the rows of its holders, and there the client itself stands.
        places = adjacency.places_of(index)
        assert np.array_equal(places // adjacency.holders.shape[1], adjacency.holders[index])
        assert set(flat[places].tolist()) == {index}


@settings(deadline=None)
@given(graphs(), st.data())
def test_delivery_is_a_transposition(graph, data):
    size, holders = graph.thresholds.roster_size, graph.adjacency.holders
    boxes, sent = Mailboxes(graph.adjacency, ITEM), set()
    for sender in data.draw(st.lists(st.integers(0, size - 1), unique=True)):
        chosen = np.array(data.draw(st.lists(st.booleans(), min_size=holders.shape[1])))
        chosen = chosen[: holders.shape[1]]
        to = holders[sender][chosen].tolist()
        boxes.send(sender, chosen, b"".join(item(sender, receiver) for receiver in to))
        sent |= {(sender, receiver) for receiver in to}
    wanted = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    for receiver in range(size):
        expected = [
            item(sender, receiver)
            for sender in range(size)
            if (sender, receiver) in sent and wanted[sender]
        ]
        read = boxes.read(receiver, wanted[holders[receiver]])
        assert pieces(read, ITEM) == expected


def test_words_are_those_of_the_bytes():
    graph = Graph.build(Thresholds(4, 3, 3), b"r")
    boxes = Mailboxes(graph.adjacency, 8)
    boxes.send(2, np.array([True, False, False, True]), bytes(range(16)))
    assert boxes.words()[0, 2].tolist() == [0x03020100, 0x07060504]
    assert boxes.words()[3, 2].tolist() == [0x0B0A0908, 0x0F0E0D0C]
    assert np.argwhere(boxes.filled).tolist() == [[0, 2], [3, 2]]
