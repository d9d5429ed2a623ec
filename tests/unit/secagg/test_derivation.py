import itertools

from finsecure_crypto.secagg import derivation
from finsecure_crypto.secret import SecretBytes

SECRET = SecretBytes(b"s" * 32)
ONE, OTHER = b"1" * 32, b"2" * 32


def self_mask_key(secret, session, index, _):
    return derivation.self_mask_key(secret, session, index)


def test_every_purpose_pair_and_session_has_its_own_key():
    keys = [
        derive(SECRET, session, one, other).expose()[:16]
        for session in (ONE, OTHER)
        for derive, one, other in (
            (derivation.channel_key, 1, 2),
            (derivation.channel_key, 2, 1),
            (derivation.channel_key, 1, 3),
            (derivation.pairwise_mask_key, 1, 2),
            (derivation.pairwise_mask_key, 1, 3),
            (self_mask_key, 1, 0),
            (self_mask_key, 2, 0),
        )
    ]
    assert all(one != other for one, other in itertools.combinations(keys, 2))


def test_both_ends_of_a_pair_derive_one_key_with_opposite_signs():
    one = derivation.pairwise_mask_key(SECRET, ONE, 3, 8)
    other = derivation.pairwise_mask_key(SECRET, ONE, 8, 3)
    assert one == other
    assert len(one) == 16
    assert derivation.pairwise_sign(3, 8) == 1
    assert derivation.pairwise_sign(8, 3) == -1


def test_commitments_bind_seed_session_and_client():
    made = {
        derivation.self_mask_commitment(SecretBytes(seed * 32), session, index)
        for seed in (b"a", b"b")
        for session in (ONE, OTHER)
        for index in (0, 1)
    }
    assert len(made) == 8
