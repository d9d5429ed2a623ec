"""Merkle trees as in certificate transparency (RFC 6962, section 2.1; RFC 9162, section 2.1)."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from finsecure_crypto.errors import InvalidArgumentError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256().digest()
"""Tree hash of a tree without leaves."""


class Node(NamedTuple):
    """A complete subtree: leaves `position << level` up to `(position + 1) << level`."""

    level: int
    position: int
    hash: bytes


FetchNode = Callable[[int, int], bytes]
"""Gives the hash of the complete subtree at a level and position."""


def leaf_hash(leaf: bytes) -> bytes:
    """Hashes a leaf; the prefix octet keeps leaves and inner nodes apart."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """A tree over an ordered list of leaves, hashed once for any number of proofs.

    Pairing level by level, with an odd last node moved up unchanged, gives the same tree as the
    RFC's recursive split at the largest power of two.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels = [[leaf_hash(leaf) for leaf in leaves]]
        while len(level := self._levels[-1]) > 1:
            above = [_node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            if len(level) % 2:
                above.append(level[-1])
            self._levels.append(above)

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """The Merkle tree hash, 32 bytes; SHA-256 of nothing for a tree without leaves."""
        return self._levels[-1][0] if self.size else EMPTY_ROOT

    def inclusion_proof(self, index: int) -> list[bytes]:
        """Returns the hashes beside the path from a leaf to the root, the lowest first.

        Raises:
            InvalidArgumentError: `LEAF_INDEX` when there is no such leaf; the caller's.
        """
        if not 0 <= index < self.size:
            raise InvalidArgumentError("LEAF_INDEX", f"the tree has no leaf {index}")
        proof = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                proof.append(level[sibling])
            index //= 2
        return proof


@dataclass(frozen=True)
class Edge:
    """The right edge of a growing tree: all that appending needs.

    Attributes:
        size: how many leaves the tree has.
        hashes: its maximal complete subtrees from left to right, one for each 1 in the binary
            form of `size`.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> tuple["Edge", list[Node]]:
        """Returns the edge behind one more leaf and the subtrees that the leaf completed.

        The lowest of them is the leaf itself; on average there are two.
        """
        node = Node(0, self.size, leaf_hash(leaf))
        completed, hashes = [node], list(self.hashes)
        while self.size >> node.level & 1:
            above = _node_hash(hashes.pop(), node.hash)
            node = Node(node.level + 1, self.size >> (node.level + 1), above)
            completed.append(node)
        return Edge(self.size + 1, (*hashes, node.hash)), completed

    @property
    def root(self) -> bytes:
        """The Merkle tree hash, 32 bytes."""
        if not self.hashes:
            return EMPTY_ROOT
        computed = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            computed = _node_hash(left, computed)
        return computed


class StoredTree:
    """The first `size` leaves of a log whose complete subtrees are kept elsewhere.

    A tree of any earlier size can be proved from the same nodes: a proof asks for a number of
    them that grows with the square of the logarithm of the size at most.
    """

    def __init__(self, size: int, node: FetchNode) -> None:
        self._size = size
        self._node = node

    @property
    def root(self) -> bytes:
        """The Merkle tree hash, 32 bytes."""
        return self._hash(0, self._size) if self._size else EMPTY_ROOT

    def inclusion_proof(self, index: int) -> list[bytes]:
        """Returns the inclusion proof of one leaf (RFC 9162, section 2.1.3.1).

        Raises:
            InvalidArgumentError: `LEAF_INDEX` when there is no such leaf; the caller's.
        """
        if not 0 <= index < self._size:
            raise InvalidArgumentError("LEAF_INDEX", f"the tree has no leaf {index}")
        proof, start, end = [], 0, self._size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self._hash(middle, end))
                end = middle
            else:
                proof.append(self._hash(start, middle))
                start = middle
        return proof[::-1]

    def consistency_proof(self, first: int) -> list[bytes]:
        """Proves that this tree begins with the tree of `first` leaves (RFC 9162, 2.1.4.1).

        Raises:
            InvalidArgumentError: `TREE_SIZE` unless 0 <= first <= size; the caller's.
        """
        if not 0 <= first <= self._size:
            raise InvalidArgumentError("TREE_SIZE", f"the tree never had {first} leaves")
        if first == 0:
            return []
        proof, start, end = [], 0, self._size
        while end != first:
            middle = start + _split(end - start)
            if first <= middle:
                proof.append(self._hash(middle, end))
                end = middle
            else:
                proof.append(self._hash(start, middle))
                start = middle
        if start:  # the verifier knows the whole of the first tree, not this part of it
            proof.append(self._hash(start, end))
        return proof[::-1]

    def _hash(self, start: int, end: int) -> bytes:
        width = end - start
        if width & (width - 1) == 0:
            level = width.bit_length() - 1
            return self._node(level, start >> level)
        middle = start + _split(width)
        return _node_hash(self._hash(start, middle), self._hash(middle, end))


def _split(width: int) -> int:
    """The largest power of two below a width of at least two."""
    return 1 << ((width - 1).bit_length() - 1)


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """Returns the Merkle tree hash of leaves, 32 bytes (RFC 9162, section 2.1.1)."""
    return MerkleTree(leaves).root


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Returns the inclusion proof of one leaf (RFC 9162, section 2.1.3.1).

    Raises:
        InvalidArgumentError: `LEAF_INDEX` when there is no such leaf; the caller's.
    """
    return MerkleTree(leaves).inclusion_proof(index)


def verify_inclusion(
    root: bytes, size: int, index: int, leaf: bytes, proof: Sequence[bytes]
) -> bool:
    """Tells whether the tree of `size` leaves under `root` has `leaf` at `index`.

    RFC 9162, section 2.1.3.2. A proof that is malformed is one that does not verify.
    The root alone does not fix the size: whoever signs or hashes a root has to bind both.
    """
    if not 0 <= index < size or any(len(node) != HASH_BYTES for node in proof):
        return False
    position, last = index, size - 1
    computed = leaf_hash(leaf)
    for node in proof:
        if last == 0:
            return False
        if position % 2 or position == last:
            computed = _node_hash(node, computed)
            while position % 2 == 0 and position:
                position >>= 1
                last >>= 1
        else:
            computed = _node_hash(computed, node)
        position >>= 1
        last >>= 1
    return last == 0 and computed == root


def verify_consistency(
    first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Tells whether the tree of `second` leaves begins with the tree of `first` leaves.

    RFC 9162, section 2.1.4.2. A proof that is malformed is one that does not verify. Every tree
    begins with the empty one.
    """
    if not 0 <= first <= second or any(len(node) != HASH_BYTES for node in proof):
        return False
    if first == 0:
        return not proof and first_root == EMPTY_ROOT
    if first == second:
        return not proof and first_root == second_root
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        return False
    position, last = first - 1, second - 1
    while position & 1:
        position >>= 1
        last >>= 1
    older = newer = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            older, newer = _node_hash(node, older), _node_hash(node, newer)
            while position & 1 == 0 and position:
                position >>= 1
                last >>= 1
        else:
            newer = _node_hash(newer, node)
        position >>= 1
        last >>= 1
    return last == 0 and older == first_root and newer == second_root
