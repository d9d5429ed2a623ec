"""What each client gives each of its holders, in one array: sent by row, read by column.

A roster of a thousand clients exchanges a million shares. None of them is an object here: what a
sender gives is scattered to the rows of those that receive it, so that a receiver's are contiguous,
in the order of the roster. That is a transposition, whatever the graph. Memory is that of the
items, n times the number of holders, and is taken up as they come.
"""

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto.secagg.bitmaps import Members
from finsecure_crypto.secagg.graph import Adjacency


class Mailboxes:
    """One place for an item from each client to each of its holders.

    Args:
        adjacency: who holds what of whom.
        item_bytes: size of an item.

    Attributes:
        adjacency: the same.
        filled: bool, shape (n, h): by receiver and its holders in order, what has come.
    """

    def __init__(self, adjacency: Adjacency, item_bytes: int) -> None:
        self.adjacency = adjacency
        self.filled: NDArray[np.bool_] = np.zeros(adjacency.holders.shape, np.bool_)
        # Items are opaque to numpy, so that it moves each in one piece.
        self._items: NDArray[np.void] = np.empty(adjacency.holders.shape, f"V{item_bytes}")

    def send(self, sender: int, chosen: Members, items: bytes) -> None:
        """Puts items into the boxes of some of a sender's holders.

        Args:
            sender: its roster index.
            chosen: bool, shape (h,): which of its holders.
            items: one for each of these, in order.
        """
        places = self.adjacency.places_of(sender)[chosen]
        self._items.reshape(-1)[places] = np.frombuffer(items, self._items.dtype)
        self.filled.reshape(-1)[places] = True

    def read(self, receiver: int, senders: Members) -> bytes:
        """Returns what has come to a receiver.

        Args:
            receiver: its roster index.
            senders: bool, shape (h,): whose items of its holders; those that sent none have none.
        """
        chosen = senders & self.filled[receiver]
        items: NDArray[np.void] = self._items[receiver][chosen]
        return items.tobytes()

    def words(self) -> NDArray[np.uint32]:
        """Returns all items as little-endian words, shape (n, h, words); a view."""
        return self._items.view("<u4").reshape(*self.filled.shape, -1)
