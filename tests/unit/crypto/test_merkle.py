"""Merkle trees agree with certificate transparency's vectors, bad proofs included."""

import pytest
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.merkle import MerkleTree, inclusion_proof, tree_hash, verify_inclusion

from tests.reference import merkle
from tests.support.crypto import vectors

VECTORS = vectors("merkle")
LEAVES = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]
ROOTS = [bytes.fromhex(root) for root in VECTORS["roots"]]


@pytest.mark.parametrize("size", range(9))
def test_roots(size):
    assert tree_hash(LEAVES[:size]) == merkle.tree_hash(LEAVES[:size]) == ROOTS[size]


@pytest.mark.parametrize("case", VECTORS["valid"])
def test_proofs(case):
    proof = [bytes.fromhex(node) for node in case["proof"]]
    size, index = case["size"], case["index"]
    assert inclusion_proof(LEAVES[:size], index) == proof
    assert verify_inclusion(ROOTS[size], size, index, LEAVES[index], proof)


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: case["why"])
def test_bad_proofs(case):
    proof = [bytes.fromhex(node) for node in case["proof"]]
    leaf = LEAVES[case["index"] % 8]
    assert not verify_inclusion(ROOTS[8], case["size"], case["index"], leaf, proof)


def test_a_proof_of_another_root_or_leaf_fails():
    tree = MerkleTree(LEAVES)
    proof = tree.inclusion_proof(3)
    assert not verify_inclusion(ROOTS[7], 8, 3, LEAVES[3], proof)
    assert not verify_inclusion(tree.root, 8, 3, LEAVES[4], proof)


def test_the_root_alone_does_not_fix_the_size():
    # As in the RFC, where the signed tree head has both: leaf 5 has the same path in both trees.
    proof = inclusion_proof(LEAVES, 5)
    assert verify_inclusion(ROOTS[8], 7, 5, LEAVES[5], proof)


def test_an_inner_node_is_no_leaf():
    left, right = MerkleTree(LEAVES[:2]).root, MerkleTree(LEAVES[2:4]).root
    root = MerkleTree(LEAVES[:4]).root
    assert not verify_inclusion(root, 1, 0, left + right, [])
    assert tree_hash([left + right]) != root


@pytest.mark.parametrize("index", [-1, 8])
def test_no_proof_for_a_leaf_that_is_not_there(index):
    with pytest.raises(InvalidArgumentError):
        MerkleTree(LEAVES).inclusion_proof(index)
