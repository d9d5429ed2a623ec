"""A server that lies: the client refuses, or the server gets noise."""

import dataclasses

import numpy as np
import pytest
from finsecure_crypto import transcript
from finsecure_crypto.errors import FinSecureError, PolicyError, ProtocolViolationError, StateError
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.merkle import MerkleTree
from finsecure_crypto.secagg import bitmaps, client
from finsecure_crypto.secagg.envelope import CIPHERTEXT_BYTES
from finsecure_crypto.secagg.messages import Confirmations, Roster, RosterEntry, ShareDelivery
from finsecure_crypto.secagg.parameters import ClientPolicy, Profile

from tests.support.secagg import (
    PERMISSIVE,
    Federation,
    make_parameters,
    pieces,
    plain_sum,
    swap,
)

ME = "bank-00001"
OTHERS = (0, 2, 3, 4)  # whose shares a round of five has for it


def ciphertexts(delivery):
    return pieces(delivery.ciphertexts, CIPHERTEXT_BYTES)


def confirmations_of(signatures, size=5):
    """What a server sends in the complete graph, from signatures by index."""
    signers = np.isin(np.arange(size), list(signatures))
    ordered = [signatures[index] for index in sorted(signatures)]
    return Confirmations(bitmaps.pack(signers), b"".join(ordered))


def signatures_of(stage):
    """The signatures by index that the server has for this client, in the complete graph."""
    sent = stage.collector.confirmations(ME)
    signers = np.flatnonzero(bitmaps.unpack(sent.signers, 5)).tolist()
    return dict(zip(signers, pieces(sent.signatures, 64), strict=True))


def refused(code, function, *arguments):
    with pytest.raises(FinSecureError) as caught:
        function(*arguments)
    assert caught.value.code == code
    return caught.value


def forge(parameters, advertisements, index):
    """A roster that is right in itself, over whatever the server likes."""
    leaves = [
        transcript.encode("roster-entry", parameters.context(), *each.parts())
        for each in advertisements
    ]
    entries = tuple(RosterEntry(i, each) for i, each in enumerate(advertisements))
    return Roster(len(leaves), MerkleTree(leaves).root, index, entries)


# ---- the round's parameters


def test_a_weak_profile_is_refused(stage):
    weak = make_parameters(5, profile=Profile.SEMI_HONEST)
    identity = stage.federation.identities[ME]
    with pytest.raises(PolicyError) as caught:
        client.advertise_keys(weak, identity)
    assert caught.value.code == "PROFILE_BELOW_POLICY"


def test_a_cohort_below_the_pinned_one_is_refused(stage):
    identity = stage.federation.identities[ME]
    policy = ClientPolicy(minimum_cohort=6)
    with pytest.raises(PolicyError) as caught:
        client.advertise_keys(stage.parameters, identity, policy=policy)
    assert caught.value.code == "COHORT_BELOW_POLICY"


def test_a_roster_below_the_pinned_threshold_is_refused(make_stage):
    stage = make_stage(5, policy=dataclasses.replace(PERMISSIVE, minimum_threshold=5)).seal()
    error = refused(
        "THRESHOLD_BELOW_POLICY",
        stage.states[ME].share_keys,
        stage.collector.roster.for_client(ME),
        stage.verify,
    )
    assert isinstance(error, PolicyError)


def test_no_message_can_name_a_threshold():
    named = {
        field.name
        for kind in (Roster, ShareDelivery, Confirmations)
        for field in dataclasses.fields(kind)
    }
    assert named == {
        *("size", "root", "index", "entries"),
        *("sharers", "ciphertexts"),
        *("signers", "signatures"),
    }


# ---- the roster


def share_with(stage, change):
    roster = stage.collector.roster.for_client(ME)
    return stage.states[ME].share_keys, change(roster), stage.verify


def replace_entry(roster, position, **changes):
    entries = list(roster.entries)
    entries[position] = dataclasses.replace(entries[position], **changes)
    return dataclasses.replace(roster, entries=tuple(entries))


def test_own_keys_that_were_swapped_are_noticed(stage):
    stage.seal()
    roster = stage.collector.roster.for_client(ME)
    own = swap(roster.entries[1].advertisement, channel_key=b"\x07" * 32)
    refused(
        "ROSTER_OWN_KEYS",
        *share_with(stage, lambda roster: replace_entry(roster, 1, advertisement=own)),
    )


def test_a_peers_key_that_was_swapped_is_noticed_through_the_root(stage):
    stage.seal()
    peer = swap(
        stage.collector.roster.for_client(ME).entries[2].advertisement, mask_key=b"\x07" * 32
    )
    refused(
        "ROSTER_ROOT",
        *share_with(stage, lambda roster: replace_entry(roster, 2, advertisement=peer)),
    )


def test_a_peers_key_that_was_swapped_under_a_new_root_is_noticed_through_the_signature(stage):
    stage.seal()
    advertisements = [e.advertisement for e in stage.collector.roster.for_client(ME).entries]
    advertisements[2] = swap(advertisements[2], mask_key=b"\x07" * 32)
    refused(
        "ADVERTISEMENT_SIGNATURE",
        *share_with(stage, lambda _: forge(stage.parameters, advertisements, 1)),
    )


def test_a_peers_keys_in_exchanged_roles_are_noticed(stage):
    stage.seal()
    advertisements = [e.advertisement for e in stage.collector.roster.for_client(ME).entries]
    honest = advertisements[2]
    advertisements[2] = swap(honest, mask_key=honest.channel_key, channel_key=honest.mask_key)
    refused(
        "ADVERTISEMENT_SIGNATURE",
        *share_with(stage, lambda _: forge(stage.parameters, advertisements, 1)),
    )


def test_an_invented_client_is_noticed_through_its_certificate(stage):
    stage.seal()
    advertisements = [e.advertisement for e in stage.collector.roster.for_client(ME).entries]
    stranger = Federation.of(6).identities["bank-00005"]
    _, invented = client.advertise_keys(stage.parameters, stranger, policy=PERMISSIVE)
    advertisements[4] = invented
    refused(
        "CERTIFICATE_UNTRUSTED",
        *share_with(stage, lambda _: forge(stage.parameters, advertisements, 1)),
    )


def test_a_revoked_peer_is_refused(stage):
    stage.seal()
    stage.federation.revoked.add("bank-00003")
    refused("CERTIFICATE_UNTRUSTED", *share_with(stage, lambda roster: roster))


def test_one_client_in_two_places_is_noticed(stage):
    stage.seal()
    advertisements = [e.advertisement for e in stage.collector.roster.for_client(ME).entries]
    advertisements[3] = advertisements[2]
    refused(
        "ROSTER_ORDER", *share_with(stage, lambda _: forge(stage.parameters, advertisements, 1))
    )


def test_clients_out_of_order_are_noticed(stage):
    stage.seal()
    advertisements = [e.advertisement for e in stage.collector.roster.for_client(ME).entries]
    advertisements[2], advertisements[3] = advertisements[3], advertisements[2]
    refused(
        "ROSTER_ORDER", *share_with(stage, lambda _: forge(stage.parameters, advertisements, 1))
    )


def test_a_client_that_uses_anothers_key_is_noticed(stage):
    stage.seal()
    advertisements = [e.advertisement for e in stage.collector.roster.for_client(ME).entries]
    advertisements[4] = swap(advertisements[4], channel_key=advertisements[0].channel_key)
    refused(
        "KEYS_NOT_DISTINCT",
        *share_with(stage, lambda _: forge(stage.parameters, advertisements, 1)),
    )


def test_a_small_order_key_is_refused(stage):
    # Only with the colluding client's signature does such a key get this far.
    stage.seal()
    advertisements = [e.advertisement for e in stage.collector.roster.for_client(ME).entries]
    colluding = stage.federation.identities["bank-00004"]
    keys = (bytes(32), b"\x05" * 32)
    signature = colluding.signing_key.sign(
        "advertise-keys", stage.parameters.context(), "bank-00004", *keys
    )
    advertisements[4] = swap(
        advertisements[4], channel_key=keys[0], mask_key=keys[1], signature=signature
    )
    refused(
        "PEER_KEY_INVALID",
        *share_with(stage, lambda _: forge(stage.parameters, advertisements, 1)),
    )


@pytest.mark.parametrize("size", [0, 1, 3, 6, 2**31])
def test_a_wrong_roster_size_is_refused(make_stage, size):
    stage = make_stage(5, minimum_cohort=4).seal()
    changed = share_with(stage, lambda roster: dataclasses.replace(roster, size=size))
    assert isinstance(refused("ROSTER_SIZE", *changed), ProtocolViolationError)


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_outside_the_roster_is_refused(stage, index):
    stage.seal()
    refused("ROSTER_SIZE", *share_with(stage, lambda r: dataclasses.replace(r, index=index)))


def test_another_clients_place_is_refused(stage):
    stage.seal()
    refused("ROSTER_OWN_KEYS", *share_with(stage, lambda r: dataclasses.replace(r, index=2)))


def test_a_roster_with_a_missing_entry_is_refused(stage):
    stage.seal()
    refused(
        "ROSTER_NEIGHBOURS",
        *share_with(stage, lambda r: dataclasses.replace(r, entries=r.entries[:-1])),
    )


def test_a_shrunk_cohort_is_refused(make_stage):
    stage = make_stage(5, minimum_cohort=4).seal()
    advertisements = [e.advertisement for e in stage.collector.roster.for_client(ME).entries][:2]
    refused("ROSTER_SIZE", *share_with(stage, lambda _: forge(stage.parameters, advertisements, 1)))


def test_a_replayed_roster_is_refused(make_stage, stage):
    old = make_stage(5, attempt=1).seal().collector.roster
    new = make_stage(5, attempt=2).seal()
    refused("ROSTER_OWN_KEYS", new.states[ME].share_keys, old.for_client(ME), new.verify)


def test_replayed_peer_keys_are_refused(make_stage):
    old = make_stage(5, attempt=1).seal().collector.roster.for_client(ME)
    new = make_stage(5, attempt=2).seal()
    entries = new.collector.roster.for_client(ME).entries
    mixed = [entries[i] if i == 1 else old.entries[i] for i in range(5)]
    forged = forge(new.parameters, [entry.advertisement for entry in mixed], 1)
    refused("ADVERTISEMENT_SIGNATURE", new.states[ME].share_keys, forged, new.verify)


def test_a_second_roster_is_not_answered(stage):
    stage.seal()
    roster = stage.collector.roster.for_client(ME)
    stage.states[ME].share_keys(roster, stage.verify)
    with pytest.raises(StateError) as caught:
        stage.states[ME].share_keys(roster, stage.verify)
    assert caught.value.code == "ALREADY_ANSWERED"


# ---- the sparse graph


def test_wrong_neighbours_are_refused(sparse_stage):
    stage = sparse_stage.seal()
    mine = stage.collector.roster.for_client(ME)
    other = next(
        entry
        for name in stage.names
        for entry in stage.collector.roster.for_client(name).entries
        if entry.index not in {each.index for each in mine.entries}
    )
    entries = sorted([*mine.entries[:-1], other], key=lambda entry: entry.index)
    if mine.entries[-1].index == mine.index:
        entries = sorted([*mine.entries[1:], other], key=lambda entry: entry.index)
    refused(
        "ROSTER_NEIGHBOURS",
        *share_with(stage, lambda r: dataclasses.replace(r, entries=tuple(entries))),
    )


def test_a_neighbour_that_is_not_in_the_tree_is_refused(sparse_stage):
    stage = sparse_stage.seal()
    roster = stage.collector.roster.for_client(ME)
    position = 0 if roster.entries[0].index != roster.index else 1
    proof = roster.entries[position].inclusion_proof
    refused(
        "ROSTER_ROOT",
        *share_with(stage, lambda r: replace_entry(r, position, inclusion_proof=proof[::-1])),
    )
    refused(
        "ROSTER_ROOT",
        *share_with(stage, lambda r: replace_entry(r, position, inclusion_proof=())),
    )


def test_another_root_or_size_moves_the_neighbours(sparse_stage):
    stage = sparse_stage.seal()
    refused(
        "ROSTER_NEIGHBOURS",
        *share_with(stage, lambda r: dataclasses.replace(r, root=b"\x00" * 32)),
    )
    refused(
        "ROSTER_NEIGHBOURS",
        *share_with(stage, lambda r: dataclasses.replace(r, size=39)),
    )


# ---- the shares


def delivery_for(stage, **changes):
    return dataclasses.replace(stage.collector.delivery(ME), **changes)


def members(size, *left_out):
    chosen = np.ones(size, np.bool_)
    chosen[list(left_out)] = False
    return bitmaps.pack(chosen)


def words_of(stage):
    return stage.inputs[ME].copy()


@pytest.mark.parametrize(
    ("left_out", "code"), [((1,), "SELF_LEFT_OUT"), ((2, 3), "COHORT_TOO_SMALL")]
)
def test_a_wrong_set_of_sharers_is_refused(stage, left_out, code):
    stage.deliver()
    delivery = stage.collector.delivery(ME)
    kept = [
        share
        for index, share in zip(OTHERS, ciphertexts(delivery), strict=True)
        if index not in left_out
    ]
    changed = ShareDelivery(members(5, *left_out), b"".join(kept))
    refused(code, stage.states[ME].mask_input, changed, words_of(stage))


@pytest.mark.parametrize("bitmap", [b"", b"\x1f\x00", b"\x3f", b"\xff"])
def test_a_malformed_set_of_sharers_is_refused(stage, bitmap):
    stage.deliver()
    delivery = delivery_for(stage, sharers=bitmap)
    refused("BITMAP_MALFORMED", stage.states[ME].mask_input, delivery, words_of(stage))


@pytest.mark.parametrize("change", ["none", "missing", "one more", "truncated", "trailing"])
def test_shares_that_do_not_match_the_sharers_are_refused(stage, change):
    stage.deliver()
    right = stage.collector.delivery(ME).ciphertexts
    wrong = {
        "none": b"",
        "missing": right[:-CIPHERTEXT_BYTES],
        "one more": right + right[:CIPHERTEXT_BYTES],
        "truncated": right[:-1],
        "trailing": right + b"\x00",
    }[change]
    refused(
        "WRONG_SHARE_SET",
        stage.states[ME].mask_input,
        delivery_for(stage, ciphertexts=wrong),
        words_of(stage),
    )
    # Nothing was said, so the right delivery is still answered.
    stage.states[ME].mask_input(stage.collector.delivery(ME), words_of(stage))


def test_a_sharer_without_a_share_is_refused(stage):
    """A set that is larger than what was dealt, and a share too many for a smaller one."""
    stage.share()
    for name in stage.names[:4]:
        stage.collector.accept(name, stage.said[name])
    collecting = stage.collector.close()
    delivery = collecting.delivery(ME)
    grown = dataclasses.replace(delivery, sharers=members(5))
    refused("WRONG_SHARE_SET", stage.states[ME].mask_input, grown, words_of(stage))
    more = delivery.ciphertexts + bytes(CIPHERTEXT_BYTES)
    padded = dataclasses.replace(delivery, ciphertexts=more)
    refused("WRONG_SHARE_SET", stage.states[ME].mask_input, padded, words_of(stage))


def test_too_few_holders_are_refused_in_the_sparse_graph(sparse_stage):
    stage = sparse_stage.deliver()
    delivery = stage.collector.delivery(ME)
    threshold = stage.collector.roster.session.threshold
    neighbours = stage.collector.roster.session.graph.neighbours(1).tolist()
    kept = ciphertexts(delivery)[: threshold - 1]
    changed = ShareDelivery(members(40, *neighbours[threshold - 1 :]), b"".join(kept))
    refused("TOO_FEW_HOLDERS", stage.states[ME].mask_input, changed, words_of(stage))


def test_a_second_vector_is_not_masked(stage):
    stage.deliver()
    state, delivery = stage.states[ME], stage.collector.delivery(ME)
    state.mask_input(delivery, words_of(stage))
    untouched = words_of(stage)
    refused("ALREADY_ANSWERED", state.mask_input, delivery, untouched)
    assert np.array_equal(untouched, stage.inputs[ME])


def spoilt(ciphertext, kind, other):
    return {
        "truncated": ciphertext[:-1] + b"\x00",
        "empty": bytes(CIPHERTEXT_BYTES),
        "flipped": bytes([ciphertext[0] ^ 1]) + ciphertext[1:],
        "reordered": other,
    }[kind]


@pytest.mark.parametrize("kind", ["truncated", "empty", "flipped", "reordered"])
def test_spoilt_ciphertexts_are_reported_and_do_not_stop_the_round(stage, kind):
    stage.deliver()
    delivery = stage.collector.delivery(ME)
    shares = dict(zip(OTHERS, ciphertexts(delivery), strict=True))
    shares[3] = spoilt(shares[3], kind, shares[4])
    spoilt_delivery = dataclasses.replace(delivery, ciphertexts=b"".join(shares.values()))
    total = np.zeros(5, np.uint64)
    waiting = {}
    for name in stage.names:
        given = spoilt_delivery if name == ME else None
        waiting[name], submitted = stage.states[name].mask_input(
            given or stage.collector.delivery(name), stage.inputs[name].copy()
        )
        stage.collector.accept(name, submitted.header)
        total += submitted.words
    confirming = stage.collector.close()
    for name in stage.names:
        waiting[name], signed = waiting[name].confirm_survivors(confirming.survivors)
        confirming.accept(name, signed)
    revealing = confirming.close()
    for name in stage.names:
        _, revealed = waiting[name].reveal_shares(revealing.confirmations(name))
        assert revealed.unreadable == (b"\x08" if name == ME else b"\x00")
        assert len(revealed.self_mask_shares) == 36 * (4 if name == ME else 5)
        revealing.accept(name, revealed)
    apply_masks(total, revealing.close().masks)
    assert np.array_equal(total, plain_sum(stage.inputs, tuple(stage.names)))


# ---- the survivors


@pytest.mark.parametrize(
    ("left_out", "code"), [((1,), "SELF_LEFT_OUT"), ((2, 3), "COHORT_TOO_SMALL")]
)
def test_a_wrong_set_of_survivors_is_refused(stage, left_out, code):
    stage.survive()
    refused(code, stage.states[ME].confirm_survivors, members(5, *left_out))


def test_the_minimum_cohort_counts_for_the_survivors(make_stage):
    stage = make_stage(
        8,
        profile=Profile.SEMI_HONEST,
        minimum_cohort=7,
    ).survive()
    refused("COHORT_TOO_SMALL", stage.states[ME].confirm_survivors, members(8, 5, 6))


def test_a_survivor_that_had_not_shared_is_refused(stage):
    stage.share()
    for name in stage.names[:4]:
        stage.collector.accept(name, stage.said[name])
    collecting = stage.collector.close()
    waiting, _ = stage.states[ME].mask_input(collecting.delivery(ME), words_of(stage))
    refused("SET_NOT_SHRINKING", waiting.confirm_survivors, members(5))


def test_two_sets_of_survivors_are_never_signed(stage):
    stage.survive()
    state = stage.states[ME]
    state.confirm_survivors(members(5))
    refused("ALREADY_ANSWERED", state.confirm_survivors, members(5, 4))


def test_split_survivor_views_get_no_shares(stage):
    """Half of the clients are told that the last one dropped out, the others that it did not."""
    stage.survive()
    views = {name: members(5, 4) if name < "bank-00002" else members(5) for name in stage.names}
    signed = {}
    for name in stage.names:
        stage.states[name], signed[name] = stage.states[name].confirm_survivors(views[name])
    everything = confirmations_of({i: signed[n].signature for i, n in enumerate(stage.names)})
    for name in stage.names[:4]:
        mine = {
            i: signed[other].signature
            for i, other in enumerate(stage.names)
            if views[other] == views[name]
        }
        with pytest.raises(ProtocolViolationError):
            stage.states[name].reveal_shares(everything)
        with pytest.raises(ProtocolViolationError):
            stage.states[name].reveal_shares(confirmations_of(mine))


# ---- the confirmations


def test_signatures_of_another_set_are_refused(stage):
    stage.sign()
    signatures = signatures_of(stage)
    signing_key = stage.federation.identities["bank-00003"].signing_key
    session = stage.collector.roster.session.digest
    signatures[3] = signing_key.sign("survivors", session, members(5, 4))
    lie = confirmations_of(signatures)
    refused("SURVIVOR_SIGNATURE", stage.states[ME].reveal_shares, lie)


def test_replayed_signatures_of_an_earlier_attempt_are_refused(make_stage):
    old = make_stage(5, attempt=1).sign()
    new = make_stage(5, attempt=2).sign()
    replayed = old.collector.confirmations(ME)
    refused("SURVIVOR_SIGNATURE", new.states[ME].reveal_shares, replayed)


def test_one_signature_under_several_names_is_refused(stage):
    stage.sign()
    one = signatures_of(stage)[0]
    refused(
        "SURVIVOR_SIGNATURE",
        stage.states[ME].reveal_shares,
        confirmations_of(dict.fromkeys(range(5), one)),
    )


def test_fewer_than_threshold_signatures_are_refused(stage):
    stage.sign()
    few = dict(list(signatures_of(stage).items())[:3])
    refused("TOO_FEW_HOLDERS", stage.states[ME].reveal_shares, confirmations_of(few))
    refused("TOO_FEW_HOLDERS", stage.states[ME].reveal_shares, confirmations_of({}))


def test_a_signer_outside_the_survivors_is_refused(stage):
    stage.sign("bank-00004")
    lie = confirmations_of({**signatures_of(stage), 4: b"\x00" * 64})
    refused("WRONG_SIGNERS", stage.states[ME].reveal_shares, lie)


def test_a_signer_that_is_no_neighbour_cannot_be_named(sparse_stage):
    """Signers are named within the holders: one more has no bit, and others' signatures fail."""
    stage = sparse_stage.sign()
    state, right = stage.states[ME], stage.collector.confirmations(ME)
    neighbours = stage.collector.roster.session.graph.neighbours(1)
    assert len(right.signatures) == 64 * neighbours.size
    whole_roster = Confirmations(members(40), right.signatures)
    refused("BITMAP_MALFORMED", state.reveal_shares, whole_roster)
    outsider = next(i for i in range(40) if i not in {1, *neighbours.tolist()})
    theirs = stage.said[stage.names[outsider]].signature
    lie = dataclasses.replace(right, signatures=right.signatures[:-64] + theirs)
    refused("SURVIVOR_SIGNATURE", state.reveal_shares, lie)


@pytest.mark.parametrize(
    ("signers", "code"),
    [
        (b"", "BITMAP_MALFORMED"),
        (b"\x1f\x00", "BITMAP_MALFORMED"),
        (b"\x3f", "BITMAP_MALFORMED"),
        (b"\x0f", "WRONG_SIGNERS"),  # one signature more than signers
    ],
)
def test_malformed_sets_of_signers_are_refused(stage, signers, code):
    stage.sign()
    lie = dataclasses.replace(stage.collector.confirmations(ME), signers=signers)
    refused(code, stage.states[ME].reveal_shares, lie)


@pytest.mark.parametrize("change", ["missing", "one more", "truncated", "trailing"])
def test_signatures_that_do_not_match_the_signers_are_refused(stage, change):
    stage.sign()
    right = stage.collector.confirmations(ME)
    wrong = {
        "missing": right.signatures[:-64],
        "one more": right.signatures + right.signatures[:64],
        "truncated": right.signatures[:-1],
        "trailing": right.signatures + b"\x00",
    }[change]
    lie = dataclasses.replace(right, signatures=wrong)
    refused("WRONG_SIGNERS", stage.states[ME].reveal_shares, lie)
    stage.states[ME].reveal_shares(right)


def test_signatures_in_another_order_are_refused(stage):
    stage.sign()
    right = stage.collector.confirmations(ME)
    swapped = right.signatures[64:128] + right.signatures[:64] + right.signatures[128:]
    lie = dataclasses.replace(right, signatures=swapped)
    refused("SURVIVOR_SIGNATURE", stage.states[ME].reveal_shares, lie)


# ---- the shares of both kinds


def test_never_both_kinds_of_share_for_one_peer(stage):
    stage.reveal("bank-00004")
    for name in stage.names[:4]:
        own = stage.names.index(name)
        revealed = stage.said[name]
        pairs = [stage.shares_of(dealer, own) for dealer in range(5)]
        assert pieces(revealed.self_mask_shares, 36) == [pair[1] for pair in pairs[:4]]
        assert pieces(revealed.mask_key_shares, 36) == [pairs[4][0]]


def test_shares_are_revealed_once(stage):
    stage.sign()
    state, confirmations = stage.states[ME], stage.collector.confirmations(ME)
    state.reveal_shares(confirmations)
    refused("ALREADY_ANSWERED", state.reveal_shares, confirmations)


def test_a_refused_message_does_not_end_the_round(stage):
    stage.sign()
    state = stage.states[ME]
    refused("TOO_FEW_HOLDERS", state.reveal_shares, confirmations_of({}))
    _, revealed = state.reveal_shares(stage.collector.confirmations(ME))
    assert len(revealed.self_mask_shares) == 5 * 36


# ---- views that differ


@pytest.mark.parametrize("changed", [{"model_digest": b"X" * 32}, {"task": "another"}])
def test_clients_that_were_told_different_things_have_different_contexts(make_stage, changed):
    one, other = make_stage(5), make_stage(5, **changed)
    one.seal()
    other.seal()
    advertisements = [e.advertisement for e in one.collector.roster.for_client(ME).entries]
    for index, name in enumerate(one.names):
        if index % 2:
            advertisements[index] = next(
                e.advertisement
                for e in other.collector.roster.for_client(name).entries
                if e.index == index
            )
    refused(
        "ADVERTISEMENT_SIGNATURE",
        one.states["bank-00000"].share_keys,
        forge(one.parameters, advertisements, 0),
        one.verify,
    )


def test_split_models_add_up_to_noise(make_stage):
    """Clients that checked no signature would still be safe: the masks bind the model."""
    # Seeds are the same in both views, so the session is all that differs.
    views = [make_stage(6, model_digest=model * 32).reveal() for model in (b"A", b"B")]
    masks = []
    for view in views:
        for name in view.names:
            view.collector.accept(name, view.said[name])
        masks.append(view.collector.close().masks)

    def unmasked(view_of):
        total = np.zeros(5, np.uint64)
        for index, name in enumerate(views[0].names):
            total += views[view_of(index)].vectors[name]
        apply_masks(total, [masks[view_of(index)][index] for index in range(6)])
        return total

    expected = plain_sum(views[0].inputs, tuple(views[0].names))
    assert np.array_equal(unmasked(lambda index: 0), expected)
    assert not np.any(unmasked(lambda index: index % 2) == expected)
