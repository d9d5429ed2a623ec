"""A client that lies: the server names it, and goes on where the sum can still be right."""

import dataclasses

import numpy as np
import pytest
from finsecure_crypto.errors import (
    FinSecureError,
    IntegrityError,
    InvalidArgumentError,
    PermissionDeniedError,
    ProtocolViolationError,
    StateError,
)
from finsecure_crypto.secagg import client, envelope, server
from finsecure_crypto.secagg.envelope import CIPHERTEXT_BYTES
from finsecure_crypto.secagg.messages import (
    KeyShares,
    MaskedInputHeader,
    RevealedShares,
    SurvivorConfirmation,
)
from finsecure_crypto.secagg.parameters import Profile, SparseGraph
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.shamir import SHARE_BYTES

from tests.support.secagg import (
    PERMISSIVE,
    Federation,
    make_identity,
    make_parameters,
    pieces,
    plain_sum,
    swap,
)

LIAR = "bank-00001"


def blamed(code, function, *arguments):
    with pytest.raises(FinSecureError) as caught:
        function(*arguments)
    assert (caught.value.code, caught.value.culprit) == (code, LIAR)
    return caught.value


# ---- advertisements


def test_an_uninvited_client_is_refused(stage):
    stage.advertise()
    stranger = make_identity("bank-00009")
    _, said = client.advertise_keys(stage.parameters, stranger, policy=PERMISSIVE)
    with pytest.raises(PermissionDeniedError) as caught:
        stage.collector.accept(said)
    assert caught.value.code == "CLIENT_NOT_EXPECTED"


def test_keys_with_a_wrong_signature_are_refused(stage):
    stage.advertise()
    said = swap(stage.said[LIAR], signature=b"\x00" * 64)
    blamed("ADVERTISEMENT_SIGNATURE", stage.collector.accept, said)


def test_keys_for_another_attempt_are_refused(stage, make_stage):
    stage.advertise()
    other = make_stage(5, attempt=2).advertise()
    blamed("ADVERTISEMENT_SIGNATURE", stage.collector.accept, other.said[LIAR])


def test_a_revoked_client_is_refused(stage):
    stage.advertise()
    stage.federation.revoked.add(LIAR)
    blamed("CERTIFICATE_UNTRUSTED", stage.collector.accept, stage.said[LIAR])


@pytest.mark.parametrize("key", [b"", b"\x05" * 31, bytes(32), (1).to_bytes(32, "little")])
def test_keys_that_would_stop_the_others_are_refused(stage, key):
    stage.advertise()
    blamed("PEER_KEY_INVALID", stage.collector.accept, swap(stage.said[LIAR], mask_key=key))


def test_one_key_in_both_roles_is_refused(stage):
    stage.advertise()
    said = stage.said[LIAR]
    twice = swap(said, mask_key=said.channel_key)
    blamed("KEYS_NOT_DISTINCT", stage.collector.accept, twice)


def test_anothers_key_is_refused(stage):
    stage.advertise()
    stage.collector.accept(stage.said["bank-00000"])
    copied = swap(stage.said[LIAR], mask_key=stage.said["bank-00000"].channel_key)
    blamed("KEYS_NOT_DISTINCT", stage.collector.accept, copied)


def test_equivocation_is_refused_and_repetition_is_not(stage):
    stage.advertise()
    assert stage.collector.accept(stage.said[LIAR]) is True
    assert stage.collector.accept(stage.said[LIAR]) is False
    _, other = client.advertise_keys(
        stage.parameters, stage.federation.identities[LIAR], policy=PERMISSIVE
    )
    blamed("DUPLICATE_MESSAGE", stage.collector.accept, other)
    assert stage.collector.accepted == {LIAR}


def test_too_many_invited_are_refused(stage):
    with pytest.raises(InvalidArgumentError) as caught:
        server.CollectAdvertisements(
            make_parameters(4), frozenset(Federation.of(5).identities), stage.verify
        )
    assert caught.value.code == "TOO_MANY_INVITED"


# ---- shares


def test_repeated_and_different_shares(stage):
    stage.share()
    assert stage.collector.accept(LIAR, stage.said[LIAR]) is True
    assert stage.collector.accept(LIAR, stage.said[LIAR]) is False
    other = dataclasses.replace(stage.said[LIAR], signature=b"\x00" * 64)
    blamed("DUPLICATE_MESSAGE", stage.collector.accept, LIAR, other)


@pytest.mark.parametrize("change", ["none", "missing", "one for itself"])
def test_shares_for_others_than_the_neighbours_are_refused(stage, change):
    stage.share()
    right = stage.said[LIAR].ciphertexts
    wrong = {
        "none": b"",
        "missing": right[:-CIPHERTEXT_BYTES],
        "one for itself": right + b"\x00" * CIPHERTEXT_BYTES,
    }[change]
    said = dataclasses.replace(stage.said[LIAR], ciphertexts=wrong)
    blamed("WRONG_SHARE_SET", stage.collector.accept, LIAR, said)


@pytest.mark.parametrize("missing", [1, CIPHERTEXT_BYTES - 1, -1, 1 - CIPHERTEXT_BYTES])
def test_shares_of_another_length_are_refused(stage, missing):
    """Truncated, or with something behind the last one."""
    stage.share()
    right = stage.said[LIAR].ciphertexts
    cut = right[:-missing] if missing > 0 else right + b"\x00" * -missing
    said = dataclasses.replace(stage.said[LIAR], ciphertexts=cut)
    blamed("SHARE_LENGTH", stage.collector.accept, LIAR, said)


@pytest.mark.parametrize("field", ["ciphertexts", "self_mask_commitment", "signature"])
def test_shares_that_are_not_what_was_signed_are_refused(stage, field):
    stage.share()
    said = stage.said[LIAR]
    change = {
        "ciphertexts": b"".join(reversed(pieces(said.ciphertexts, CIPHERTEXT_BYTES))),
        "self_mask_commitment": b"\x00" * 32,
        "signature": stage.said["bank-00000"].signature,
    }
    changed = dataclasses.replace(said, **{field: change[field]})
    blamed("MESSAGE_SIGNATURE", stage.collector.accept, LIAR, changed)


@pytest.mark.parametrize("reach", ["share", "mask", "confirm"])
def test_no_message_of_another_attempt_is_accepted(make_stage, reach):
    old, new = make_stage(5, attempt=1), make_stage(5, attempt=2)
    getattr(old, reach)()
    getattr(new, reach)()
    blamed("MESSAGE_SIGNATURE", new.collector.accept, LIAR, old.said[LIAR])


# ---- masked inputs


@pytest.mark.parametrize("size", [0, 8, 32, 41, 48, 2**40])
def test_a_wrong_size_is_refused_before_the_vector_comes(stage, size):
    stage.mask()
    key = stage.federation.identities[LIAR].signing_key
    session = stage.collector.roster.session.digest
    said = MaskedInputHeader(size, b"d" * 32, key.sign("masked-input", session, size, b"d" * 32))
    blamed("WRONG_INPUT_SIZE", stage.collector.check, LIAR, said)


def test_a_header_that_is_not_signed_is_refused(stage):
    stage.mask()
    said = dataclasses.replace(stage.said[LIAR], sha256=b"d" * 32)
    blamed("MESSAGE_SIGNATURE", stage.collector.check, LIAR, said)


def test_checking_accepts_nothing(stage):
    stage.mask()
    assert stage.collector.check(LIAR, stage.said[LIAR]) is True
    assert stage.collector.accepted == frozenset()
    assert stage.collector.accept(LIAR, stage.said[LIAR]) is True
    assert stage.collector.check(LIAR, stage.said[LIAR]) is False


@pytest.mark.parametrize("change", ["long", "short", "floats", "read-only"])
def test_an_honest_client_masks_no_other_vector(stage, change):
    stage.deliver()
    words = {
        "long": np.zeros(6, np.uint64),
        "short": np.zeros(4, np.uint64),
        "floats": np.zeros(5),
        "read-only": np.frombuffer(bytes(40), np.uint64),
    }[change]
    with pytest.raises(InvalidArgumentError) as caught:
        stage.states[LIAR].mask_input(stage.collector.delivery(LIAR), words)
    assert caught.value.code == "VECTOR_SHAPE"


# ---- phases


def test_messages_out_of_phase_are_refused(stage):
    stage.share()
    early = SurvivorConfirmation(b"\x00" * 64)
    error = blamed("OUT_OF_PHASE", stage.collector.accept, LIAR, early)
    assert isinstance(error, StateError)


def test_a_repeated_message_of_an_earlier_phase_is_harmless(stage):
    stage.share()
    shared = dict(stage.said)
    for name in stage.names:
        stage.collector.accept(name, shared[name])
    collecting = stage.collector.close()
    assert collecting.accept(LIAR, shared[LIAR]) is False
    changed = dataclasses.replace(shared[LIAR], signature=b"\x00" * 64)
    blamed("DUPLICATE_MESSAGE", collecting.accept, LIAR, changed)


def test_a_client_that_missed_a_phase_is_out(stage):
    stage.share()
    for name in stage.names:
        if name != LIAR:
            stage.collector.accept(name, stage.said[name])
    collecting = stage.collector.close()
    blamed("OUT_OF_PHASE", collecting.accept, LIAR, stage.said[LIAR])
    header = MaskedInputHeader(40, b"d" * 32, b"\x00" * 64)
    blamed("CLIENT_NOT_EXPECTED", collecting.accept, LIAR, header)


def test_a_phase_closes_without_those_that_are_missing(stage):
    stage.advertise()
    for name in stage.names[:4]:
        stage.collector.accept(stage.said[name])
    assert not stage.collector.complete
    assert stage.collector.close().roster.clients == tuple(stage.names[:4])


# ---- confirmations


def test_a_confirmation_of_another_set_is_refused(stage):
    stage.confirm()
    key = stage.federation.identities[LIAR].signing_key
    session = stage.collector.roster.session.digest
    said = SurvivorConfirmation(key.sign("survivors", session, b"\x0f"))
    blamed("MESSAGE_SIGNATURE", stage.collector.accept, LIAR, said)


def test_anothers_confirmation_is_refused(stage):
    stage.confirm()
    blamed("MESSAGE_SIGNATURE", stage.collector.accept, LIAR, stage.said["bank-00002"])


# ---- shares that are revealed


def reveal_all(stage, replaced):
    for name in stage.names:
        if name in replaced:
            stage.collector.accept(name, replaced[name])
        elif name in stage.said and isinstance(stage.said[name], RevealedShares):
            stage.collector.accept(name, stage.said[name])


def bad(shares):
    return b"".join(bytes([share[0] ^ 1]) + share[1:] for share in pieces(shares, SHARE_BYTES))


def lying(revealed):
    """Wrong shares of all self masks."""
    return dataclasses.replace(revealed, self_mask_shares=bad(revealed.self_mask_shares))


@pytest.mark.parametrize("which", ["all", "self masks", "mask keys", "one"])
def test_bad_shares_name_the_liar_and_the_sum_is_still_right(make_stage, which):
    stage = make_stage(12, profile=Profile.SEMI_HONEST).reveal("bank-00011")
    honest = stage.said[LIAR]
    own, keys = honest.self_mask_shares, honest.mask_key_shares
    first, sixth, end = 0, 5 * SHARE_BYTES, 6 * SHARE_BYTES
    one = own[first:sixth] + bad(own[sixth:end]) + own[end:]
    lie = {
        "all": (bad(own), bad(keys)),
        "self masks": (bad(own), keys),
        "mask keys": (own, bad(keys)),
        "one": (one, keys),
    }[which]
    reveal_all(stage, {LIAR: RevealedShares(*lie, honest.unreadable)})
    unmasking = stage.collector.close()
    assert {blame.client for blame in unmasking.blamed} == {LIAR}
    assert {blame.reason for blame in unmasking.blamed} == {"SHARE_WRONG"}
    assert np.array_equal(stage.total(unmasking), plain_sum(stage.inputs, unmasking.survivors))


def test_two_liars_are_named(make_stage):
    stage = make_stage(12, profile=Profile.SEMI_HONEST).reveal()
    liars = {name: lying(stage.said[name]) for name in ("bank-00000", "bank-00003")}
    reveal_all(stage, liars)
    unmasking = stage.collector.close()
    assert {blame.client for blame in unmasking.blamed} == set(liars)
    assert np.array_equal(stage.total(unmasking), plain_sum(stage.inputs, unmasking.survivors))


def test_too_many_liars_stop_the_round_and_nobody_is_accused(make_stage):
    stage = make_stage(9).reveal()
    liars = {name: lying(stage.said[name]) for name in stage.names[:2]}
    reveal_all(stage, liars)
    with pytest.raises(IntegrityError) as caught:
        stage.collector.close()
    assert caught.value.code == "SHARES_NOT_DECODABLE"
    assert caught.value.culprit is None


def test_closing_can_be_tried_again_after_more_shares(make_stage):
    stage = make_stage(9).reveal()
    lie = lying(stage.said[LIAR])
    for name in stage.names[:7]:
        assert not stage.collector.ready
        stage.collector.accept(name, lie if name == LIAR else stage.said[name])
    assert stage.collector.ready
    assert not stage.collector.complete
    with pytest.raises(IntegrityError) as caught:
        stage.collector.close()
    # Seven shares of which seven are needed: nobody can tell who lied, so nobody is accused.
    assert (caught.value.code, caught.value.culprit) == ("SHARES_NOT_DECODABLE", None)
    for name in stage.names[7:]:
        stage.collector.accept(name, stage.said[name])
    assert stage.collector.complete
    unmasking = stage.collector.close()
    assert {blame.client for blame in unmasking.blamed} == {LIAR}
    assert np.array_equal(stage.total(unmasking), plain_sum(stage.inputs, unmasking.survivors))


@pytest.mark.parametrize(
    "change",
    [
        "missing",
        "more",
        "both kinds",
        "the other kind",
        "unreadable and revealed",
        "unreadable self",
        "unreadable and no dealer",
    ],
)
def test_other_shares_than_the_client_holds_are_refused(stage, make_stage, change):
    stage.reveal("bank-00004")
    own, keys = stage.said[LIAR].self_mask_shares, stage.said[LIAR].mask_key_shares
    assert (len(own), len(keys)) == (4 * SHARE_BYTES, SHARE_BYTES)
    lie = {
        "missing": (own[SHARE_BYTES:], keys, b"\x00"),
        "more": (own + own[:SHARE_BYTES], keys, b"\x00"),
        "both kinds": (own, keys + own[:SHARE_BYTES], b"\x00"),
        "the other kind": (keys, own, b"\x00"),
        "unreadable and revealed": (own, keys, b"\x01"),
        "unreadable self": (own[SHARE_BYTES:], keys, b"\x02"),
        "unreadable and no dealer": (own, b"", b"\x10"),
    }[change]
    if change == "unreadable and no dealer":
        stage = without_the_last(make_stage)
    blamed("WRONG_SHARE_SET", stage.collector.accept, LIAR, RevealedShares(*lie))


def without_the_last(make_stage):
    """A round of five of which the last has not even shared, up to the reveal."""
    stage = make_stage(5).share()
    stage.names.pop()
    for name in stage.names:
        stage.collector.accept(name, stage.said[name])
    stage.collector = stage.collector.close()
    finish_masking(stage, reveal=False)
    return stage


@pytest.mark.parametrize("kind", ["self_mask_shares", "mask_key_shares"])
@pytest.mark.parametrize("change", ["truncated", "trailing", "no element"])
def test_shares_that_are_no_field_elements_are_refused(stage, kind, change):
    stage.reveal("bank-00004")
    right = getattr(stage.said[LIAR], kind)
    wrong = {
        "truncated": right[:-1],
        "trailing": right + b"\x00",
        "no element": b"\xff" * SHARE_BYTES + right[SHARE_BYTES:],
    }[change]
    lie = dataclasses.replace(stage.said[LIAR], **{kind: wrong})
    blamed("SHARE_MALFORMED", stage.collector.accept, LIAR, lie)


@pytest.mark.parametrize("bitmap", [b"", b"\x00\x00", b"\x20", b"\xff"])
def test_malformed_sets_of_unreadable_shares_are_refused(stage, bitmap):
    stage.reveal()
    lie = dataclasses.replace(stage.said[LIAR], unreadable=bitmap)
    blamed("BITMAP_MALFORMED", stage.collector.accept, LIAR, lie)


def test_a_client_that_shared_another_secret_is_named(make_stage, monkeypatch):
    stage = make_stage(6).seal()
    split = client.shamir.split

    def another(secrets, *arguments):
        return split((secrets[0], SecretBytes(b"x" * 32)), *arguments)

    for name in stage.names:
        with monkeypatch.context() as patch:
            if name == LIAR:
                patch.setattr(client.shamir, "split", another)
            stage.states[name], said = stage.states[name].share_keys(
                stage.collector.roster.for_client(name), stage.verify, stage.random[name]
            )
        stage.collector.accept(name, said)
    stage.collector = stage.collector.close()
    finish_masking(stage)
    blamed("SECRET_MISMATCH", stage.collector.close)


def test_one_wrong_share_of_a_dealer_does_not_stop_the_round(make_stage, monkeypatch):
    """What a dealer does to frame its holder; the blame says whose secret it was about."""
    stage = make_stage(12, profile=Profile.SEMI_HONEST).seal()
    seal = envelope.seal

    def spoil(key, session, sender, receiver, pair, randomness):
        if receiver == 3:
            pair = envelope.SharePair(pair.mask_key, SecretBytes(b"\x01" * 36))
        return seal(key, session, sender, receiver, pair, randomness)

    for name in stage.names:
        with monkeypatch.context() as patch:
            if name == LIAR:
                patch.setattr(envelope, "seal", spoil)
            stage.states[name], said = stage.states[name].share_keys(
                stage.collector.roster.for_client(name), stage.verify, stage.random[name]
            )
        stage.collector.accept(name, said)
    stage.collector = stage.collector.close()
    finish_masking(stage)
    unmasking = stage.collector.close()
    assert [(blame.client, blame.about) for blame in unmasking.blamed] == [("bank-00003", LIAR)]
    assert np.array_equal(stage.total(unmasking), plain_sum(stage.inputs, unmasking.survivors))


def finish_masking(stage, *, reveal=True):
    for name in stage.names:
        stage.states[name], submitted = stage.states[name].mask_input(
            stage.collector.delivery(name), stage.inputs[name].copy()
        )
        stage.vectors[name] = submitted.words
        stage.collector.accept(name, submitted.header)
    stage.collector = stage.collector.close()
    for name in stage.names:
        stage.states[name], said = stage.states[name].confirm_survivors(stage.collector.survivors)
        stage.collector.accept(name, said)
    stage.collector = stage.collector.close()
    for name in stage.names if reveal else ():
        _, said = stage.states[name].reveal_shares(stage.collector.confirmations(name))
        stage.collector.accept(name, said)


# ---- too few


def test_each_phase_aborts_below_its_threshold(stage):
    def too_few(code):
        with pytest.raises(StateError) as caught:
            stage.collector.close()
        assert caught.value.code == code

    stage.advertise()
    stage.collector.accept(stage.said[LIAR])
    too_few("COHORT_TOO_SMALL")
    stage.share()
    for name in stage.names[:3]:
        stage.collector.accept(name, stage.said[name])
    too_few("TOO_FEW_SHARERS")
    stage.mask()
    for name in stage.names[:3]:
        stage.collector.accept(name, stage.said[name])
    too_few("TOO_FEW_INPUTS")


@pytest.mark.parametrize(
    ("reach", "code"), [("confirm", "TOO_FEW_CONFIRMATIONS"), ("reveal", "TOO_FEW_REVEALS")]
)
def test_the_last_phases_abort_below_the_threshold(stage, reach, code):
    getattr(stage, reach)()
    for name in stage.names[:3]:
        stage.collector.accept(name, stage.said[name])
    with pytest.raises(StateError) as caught:
        stage.collector.close()
    assert caught.value.code == code
    stage.collector.accept(stage.names[3], stage.said[stage.names[3]])
    stage.collector.close()


def test_errors_about_a_client_say_whose_fault_it_is(stage):
    stage.share()
    said = KeyShares(stage.said[LIAR].ciphertexts, b"\x00" * 32, b"\x00" * 64)
    error = blamed("MESSAGE_SIGNATURE", stage.collector.accept, LIAR, said)
    assert isinstance(error, ProtocolViolationError)


def test_a_drop_out_whose_secret_nobody_could_rebuild_ends_the_round(make_stage):
    """Each survivor still has enough holders here, but the one that left has not."""
    stage = make_stage(30, graph=SparseGraph(0.0, 0.05), profile=Profile.SEMI_HONEST).mask()
    graph = stage.collector.roster.session.graph
    assert (graph.thresholds.neighbours, graph.thresholds.threshold) == (4, 2)
    leaver = 7
    gone = {leaver, *graph.neighbours(leaver).tolist()[:3]}
    survivors = [index for index in range(30) if index not in gone]
    for index in survivors:
        stage.collector.accept(stage.names[index], stage.said[stage.names[index]])
        assert len(set(graph.neighbours(index).tolist()) - gone) >= 2
    with pytest.raises(StateError) as caught:
        stage.collector.close()
    assert caught.value.code == "TOO_FEW_INPUTS"
