"""Who masks with whom, and who holds whose shares.

The complete graph, or the circulant graph of degree k (Harary) over a permutation of the roster
(Bell et al., CCS 2020, section 3). The permutation sorts the roster by the words of a keystream
whose key is a digest of the roster, so that each client works its own neighbours out.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import transcript
from finsecure_crypto.masking import MASK_KEY_BYTES, apply_masks
from finsecure_crypto.secagg.bitmaps import Members
from finsecure_crypto.secagg.parameters import Thresholds
from finsecure_crypto.secret import SecretBytes

Indices = NDArray[np.uint32]
"""Roster indices, ascending."""


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Who holds shares of whom, for a whole roster at once; holding is mutual.

    Attributes:
        holders: uint32, shape (n, h): the holders of each client, ascending.
    """

    holders: NDArray[np.uint32]
    _places: NDArray[np.uint32] = field(repr=False)  # of the client among each of its holders'

    def places_of(self, index: int) -> NDArray[np.intp]:
        """Returns, for each holder of a client, where in the holder's row the client is.

        The places are those in a flat array of shape (n·h,), such as `holders.reshape(-1)`.
        """
        rows = self.holders[index].astype(np.intp)
        places: NDArray[np.intp] = rows * self.holders.shape[1] + self._places[index]
        return places


@dataclass(frozen=True, eq=False)
class Graph:
    """The masking graph of a session.

    Attributes:
        thresholds: the derived k and t.
    """

    thresholds: Thresholds
    _order: Indices = field(repr=False)  # roster index by place on the circle
    _place: Indices = field(repr=False)  # its inverse

    @classmethod
    def build(cls, thresholds: Thresholds, roster_digest: bytes) -> "Graph":
        """Builds the graph that the roster's digest determines."""
        size = thresholds.roster_size
        if thresholds.complete:
            order = np.arange(size, dtype=np.uint32)
        else:
            seed = transcript.digest("masking-graph", roster_digest)[:MASK_KEY_BYTES]
            words = np.zeros(size, np.uint64)
            apply_masks(words, [(SecretBytes(seed), 1)])
            order = np.argsort(words, kind="stable").astype(np.uint32)
        place = np.empty(size, np.uint32)
        place[order] = np.arange(size, dtype=np.uint32)
        return cls(thresholds, order, place)

    def neighbours(self, index: int) -> Indices:
        """Returns the k clients with which a client masks, and exchanges shares."""
        reach = np.arange(1, self.thresholds.neighbours // 2 + 1)
        if self.thresholds.complete:
            return np.delete(self._order, index)
        place = int(self._place[index])
        around = np.concatenate([place + reach, place - reach]) % self.thresholds.roster_size
        return np.sort(self._order[around])

    def holders(self, index: int) -> Indices:
        """Returns the clients that hold shares of a client's secrets.

        In the complete graph that is everybody, the client itself included; in the sparse graph
        its neighbours. Holding is mutual.
        """
        return self._order if self.thresholds.complete else self.neighbours(index)

    @cached_property
    def adjacency(self) -> Adjacency:
        """All holders of all clients, which a server needs; memory is that of n·k indices at most.

        In the complete graph, where all rows are the same, it is that of n.
        """
        size = self.thresholds.roster_size
        if self.thresholds.complete:
            return Adjacency(
                np.broadcast_to(self._order, (size, size)),
                np.broadcast_to(self._order[:, None], (size, size)),
            )
        degree = self.thresholds.neighbours
        reach = np.arange(1, degree // 2 + 1, dtype=np.uint32)
        steps = np.concatenate([reach, np.uint32(size) - reach])
        holders = self._order[(self._place[:, None] + steps) % np.uint32(size)]
        holders.sort(axis=1)
        # Sorted by holder and then by client, the edges are those of the holders' own rows.
        edges = np.argsort(holders, axis=None, kind="stable")
        places = np.empty(holders.size, np.uint32)
        places[edges] = np.arange(holders.size) % degree
        return Adjacency(holders, places.reshape(size, degree))

    def holder_counts(self, present: Members) -> NDArray[np.int64]:
        """Counts, for each client of the roster, its holders that are present."""
        size = self.thresholds.roster_size
        if self.thresholds.complete:
            return np.full(size, np.count_nonzero(present))
        half = self.thresholds.neighbours // 2
        circle = present[self._order].astype(np.int64)
        sums = np.cumsum(np.concatenate([[0], circle[size - half :], circle, circle[:half]]))
        counts = np.empty(size, np.int64)
        counts[self._order] = sums[2 * half + 1 :] - sums[:size] - circle
        return counts
