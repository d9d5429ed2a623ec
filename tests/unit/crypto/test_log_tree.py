"""Growing trees: the stored edge, consistency proofs, and what a dishonest log cannot prove."""

import pytest
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.merkle import EMPTY_ROOT, Edge, StoredTree, verify_consistency

from tests.reference import merkle

LEAVES = [bytes([number]) * number for number in range(34)]


def grown(leaves: list[bytes]) -> tuple[Edge, dict[tuple[int, int], bytes]]:
    edge, nodes = Edge(), {}
    for leaf in leaves:
        edge, completed = edge.append(leaf)
        nodes |= {(node.level, node.position): node.hash for node in completed}
    return edge, nodes


EDGE, NODES = grown(LEAVES)


def tree(size: int) -> StoredTree:
    return StoredTree(size, lambda level, position: NODES[level, position])


def test_appending_agrees_with_hashing_everything():
    edge = Edge()
    for size, leaf in enumerate(LEAVES):
        expected = merkle.tree_hash(LEAVES[:size])
        assert edge.root == tree(size).root == expected
        assert len(edge.hashes) == size.bit_count()
        edge, _ = edge.append(leaf)
    assert len(NODES) == sum(len(LEAVES) >> level for level in range(6))


def test_proofs_agree_with_the_definitions_for_every_size():
    for size in range(1, len(LEAVES) + 1):
        for index in range(size):
            assert tree(size).inclusion_proof(index) == merkle.inclusion_proof(LEAVES[:size], index)
        for first in range(1, size + 1):
            proof = tree(size).consistency_proof(first)
            assert proof == merkle.consistency_proof(LEAVES[:size], first)
            assert verify_consistency(first, tree(first).root, size, tree(size).root, proof)


def test_every_tree_begins_with_the_empty_one():
    assert tree(9).consistency_proof(0) == []
    assert verify_consistency(0, EMPTY_ROOT, 9, tree(9).root, [])
    assert not verify_consistency(0, tree(1).root, 9, tree(9).root, [])
    assert not verify_consistency(0, EMPTY_ROOT, 9, tree(9).root, [EMPTY_ROOT])


def test_a_changed_or_shortened_history_has_no_proof():
    changed, _ = grown([*LEAVES[:5], b"changed", *LEAVES[6:]])
    for first in range(6, 33):
        proof = tree(34).consistency_proof(first)
        old = tree(first).root
        assert not verify_consistency(first, old, 34, changed.root, proof)
        assert not verify_consistency(34, EDGE.root, first, old, proof)
        assert not verify_consistency(first, old, 34, EDGE.root, proof[:-1])
        assert not verify_consistency(first, old, 34, EDGE.root, [*proof, EMPTY_ROOT])
        assert not verify_consistency(first, old, 34, EDGE.root, [])
        assert not verify_consistency(first, old, 34, EDGE.root, [node[:-1] for node in proof])
        for position in range(len(proof)):
            bent = [*proof]
            bent[position] = bytes(32)
            assert not verify_consistency(first, old, 34, EDGE.root, bent)
    assert not verify_consistency(7, EDGE.root, 7, tree(7).root, [])
    assert not verify_consistency(-1, EDGE.root, 7, tree(7).root, [])


@pytest.mark.parametrize("first", [-1, 35])
def test_no_proof_for_a_size_that_never_was(first):
    with pytest.raises(InvalidArgumentError, match="TREE_SIZE"):
        tree(34).consistency_proof(first)
    with pytest.raises(InvalidArgumentError, match="LEAF_INDEX"):
        tree(34).inclusion_proof(first)
