"""Secrets come back from any t good shares, and up to (m - t)/2 wrong ones are found."""

import numpy as np
import pytest
from finsecure_crypto import field, shamir
from finsecure_crypto.errors import IntegrityError, StateError
from finsecure_crypto.secagg.graph import Graph
from finsecure_crypto.secagg.parameters import Thresholds
from finsecure_crypto.secagg.reconstruction import SecretMismatchError, SharePool, rebuild
from finsecure_crypto.secret import SecretBytes
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.secagg import deterministic


def deal(graph, threshold, seed):
    """Returns the secrets, and what each holder would reveal."""
    draw = deterministic(f"secrets/{seed}")
    size = graph.thresholds.roster_size
    secrets = [SecretBytes(draw(32)) for _ in range(size)]
    held = {holder: {} for holder in range(size)}
    for owner, secret in enumerate(secrets):
        holders = graph.holders(owner)
        shares = shamir.split([secret], threshold, holders + np.uint32(1), draw)[0]
        for holder, share in zip(holders.tolist(), shares, strict=True):
            held[holder][owner] = share
    return secrets, held


def reveal(graph, held, present, spoil=()):
    """Lays out the shares of those present; `spoil` holds (holder, owner) pairs that are wrong."""
    holders = np.stack([graph.holders(owner) for owner in range(len(held))])
    revealed = np.isin(holders, list(present))
    shares = np.full((*holders.shape, shamir.LIMBS), 2**32 - 1, np.uint32)  # no element
    for owner, place in np.argwhere(revealed).tolist():
        holder = int(holders[owner, place])
        wrong = np.uint32((holder, owner) in spoil)
        shares[owner, place] = (held[holder][owner] + wrong) % np.uint32(field.P)
    return SharePool(holders, revealed, shares)


def owners(size):
    return np.arange(size)


def check_of(secrets):
    return lambda owner, secret: secret == secrets[owner]


@settings(deadline=None, max_examples=40)
@given(st.data(), st.booleans())
def test_any_enough_holders_rebuild_all(data, complete):
    size = 15
    neighbours, threshold = (size - 1, 6) if complete else (8, 4)
    graph = Graph.build(Thresholds(size, neighbours, threshold), b"roster")
    secrets, held = deal(graph, threshold, "any")
    gone = data.draw(st.sets(st.integers(0, size - 1), max_size=size - threshold))
    present = data.draw(st.permutations([h for h in range(size) if h not in gone]))
    counts = [len(set(graph.holders(owner).tolist()) - gone) for owner in range(size)]
    if min(counts) < threshold:
        with pytest.raises(StateError):
            rebuild(reveal(graph, held, present), owners(size), threshold, check_of(secrets))
        return
    rebuilt = rebuild(reveal(graph, held, present), owners(size), threshold, check_of(secrets))
    assert rebuilt.wrong == ()
    assert all(rebuilt.secrets[owner] == secrets[owner] for owner in range(size))


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_few_wrong_shares_are_found(data):
    size, threshold = 12, 6
    graph = Graph.build(Thresholds(size, size - 1, threshold), b"roster")
    secrets, held = deal(graph, threshold, "few")
    liars = data.draw(st.sets(st.integers(0, size - 1), max_size=(size - threshold) // 2))
    pairs = [(liar, owner) for liar in liars for owner in range(size)]
    spoil = data.draw(st.sets(st.sampled_from(pairs))) if pairs else set()
    rebuilt = rebuild(
        reveal(graph, held, range(size), spoil), owners(size), threshold, check_of(secrets)
    )
    assert all(rebuilt.secrets[owner] == secrets[owner] for owner in range(size))
    assert set(rebuilt.wrong) <= spoil


def test_framed_holders_are_needed_and_used():
    """Dealers of wrong shares make honest holders suspect until too few are left without them."""
    size, threshold = 7, 5
    graph = Graph.build(Thresholds(size, size - 1, threshold), b"roster")
    secrets, held = deal(graph, threshold, "framed")
    # Three dealers, each with a wrong share for another of the first holders.
    spoil = {(0, 6), (1, 5), (2, 4)}
    rebuilt = rebuild(
        reveal(graph, held, range(size), spoil), owners(size), threshold, check_of(secrets)
    )
    assert set(rebuilt.wrong) == spoil
    assert all(rebuilt.secrets[owner] == secrets[owner] for owner in range(size))


def test_an_owner_of_another_secret_is_named():
    graph = Graph.build(Thresholds(6, 5, 4), b"roster")
    secrets, held = deal(graph, 4, "another")
    secrets[2] = SecretBytes(b"x" * 32)
    with pytest.raises(SecretMismatchError) as caught:
        rebuild(reveal(graph, held, range(6)), owners(6), 4, check_of(secrets))
    assert (caught.value.code, caught.value.owner) == ("SECRET_MISMATCH", 2)


def test_threshold_shares_accuse_nobody():
    graph = Graph.build(Thresholds(6, 5, 4), b"roster")
    secrets, held = deal(graph, 4, "bare")
    with pytest.raises(IntegrityError) as caught:
        rebuild(reveal(graph, held, range(4), {(0, 0)}), owners(6), 4, check_of(secrets))
    assert caught.value.code == "SHARES_NOT_DECODABLE"
