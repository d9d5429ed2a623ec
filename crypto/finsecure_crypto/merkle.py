"""Merkle trees as in certificate transparency (RFC 6962, section 2.1; RFC 9162, section 2.1)."""

import hashlib
from collections.abc import Sequence

from finsecure_crypto.errors import InvalidArgumentError

HASH_BYTES = 32


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
        return self._levels[-1][0] if self.size else hashlib.sha256().digest()

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
