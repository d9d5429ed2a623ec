"""Merkle tree hashes and proofs by the recursive definitions of RFC 9162, section 2.1."""

import hashlib


def _split(size):
    """Returns the largest power of two below size."""
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def tree_hash(leaves):
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = _split(len(leaves))
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def inclusion_proof(leaves, index):
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*inclusion_proof(leaves[:k], index), tree_hash(leaves[k:])]
    return [*inclusion_proof(leaves[k:], index - k), tree_hash(leaves[:k])]


def consistency_proof(leaves, first):
    return _subproof(leaves, first, True)


def _subproof(leaves, first, whole):
    if first == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    k = _split(len(leaves))
    if first <= k:
        return [*_subproof(leaves[:k], first, whole), tree_hash(leaves[k:])]
    return [*_subproof(leaves[k:], first - k, False), tree_hash(leaves[:k])]
