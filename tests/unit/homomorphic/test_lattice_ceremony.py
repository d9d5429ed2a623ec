"""Three holders make a lattice key together; whoever cheats is named, and nobody has a key then."""

import dataclasses

import numpy as np
import pytest
from finsecure_crypto.errors import (
    IntegrityError,
    InvalidArgumentError,
    ProtocolViolationError,
    StateError,
)
from finsecure_crypto.homomorphic import lattice_ceremony
from finsecure_crypto.homomorphic.lattice import sampling
from finsecure_crypto.homomorphic.lattice.components import Component
from finsecure_crypto.homomorphic.lattice.messages import (
    Commitment,
    Confirmation,
    Contribution,
    Handover,
    Opening,
)
from finsecure_crypto.homomorphic.lattice.opening import partner, predecessor
from finsecure_crypto.homomorphic.lattice.parameters import NOISE_COINS, OF_MODE
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.secret import SecretBytes

from tests.support.crypto import seeded
from tests.support.lattice import (
    CONTEXT,
    HOLDERS,
    MODES,
    ceremony,
    commit,
    contribute,
    finish,
    reveal,
    whole_secret,
)

by_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)


def violated(code, culprit, call):
    with pytest.raises(ProtocolViolationError) as caught:
        call()
    assert (caught.value.code, caught.value.culprit) == (code, str(culprit))


@by_mode
def test_all_holders_arrive_at_the_same_key(mode):
    states, commitments = commit(mode)
    states, openings = reveal(states, commitments)
    states, contributions, handovers = contribute(states, openings)
    states, confirmations = finish(states, contributions, handovers)
    made = [states[holder].confirm(confirmations) for holder in HOLDERS]
    assert len({key.digest() for key, _ in made}) == 1
    for holder, (_, share) in zip(HOLDERS, made, strict=True):
        assert (share.holder, share.mode, share.key_digest) == (holder, mode, made[0][0].digest())
        assert share.components[1] == handovers[predecessor(holder)].component


@by_mode
def test_the_key_is_one_of_the_whole_secret_with_small_noise(mode):
    """b + a·s is the noise of three holders, a multiple of t in BGV."""
    key, shares = ceremony(mode)
    parameters, ring = key.system.parameters, key.system.ring
    primes = len(parameters.ciphertext_primes)
    mask = sampling.uniform(key.seed, parameters.degree, parameters.primes)[:primes]
    body = np.frombuffer(key.body, parameters.word).astype(np.uint64).reshape(-1, mask.shape[1])
    secret = whole_secret(key, shares)
    rest = ring.inverse(ring.add(body[:primes], ring.multiply(mask[None], secret)[0])[None])
    inverses = [pow(parameters.noise_factor, -1, prime) for prime in ring.primes]
    noise = [
        [int(residue) * inverse % prime for residue in row]
        for row, inverse, prime in zip(rest[0], inverses, ring.primes, strict=True)
    ]
    centred = [
        [n - prime if n > prime // 2 else n for n in row]
        for row, prime in zip(noise, ring.primes, strict=True)
    ]
    assert all(row == centred[0] for row in centred)
    assert max(map(abs, centred[0])) <= 3 * NOISE_COINS
    assert np.var(centred[0]) == pytest.approx(3 * 10.5, rel=0.15)


@by_mode
def test_ceremonies_of_another_context_or_randomness_make_other_keys(mode):
    def key_of(seed, context):
        states, commitments = commit(mode, seed, context)
        states, openings = reveal(states, commitments)
        states, contributions, handovers = contribute(states, openings)
        states, confirmations = finish(states, contributions, handovers)
        return states[1].confirm(confirmations)[0]

    keys = [key_of("a", CONTEXT), key_of("b", CONTEXT), key_of("a", bytes(32))]
    assert len({key.seed for key in keys}) == 3
    assert key_of("a", CONTEXT) == keys[0]


def test_who_changes_its_seed_after_the_others_is_named():
    states, commitments = commit(Mode.BGV)
    states, openings = reveal(states, commitments)
    openings[2] = dataclasses.replace(openings[2], content=bytes(32))
    violated("COMMITMENT_BROKEN", 2, lambda: states[1].contribute(openings))


@by_mode
@pytest.mark.parametrize("holder", HOLDERS)
def test_who_publishes_what_it_does_not_know_is_named_by_its_partner(mode, holder):
    """The rogue key: a term that cancels the others', so that the sum is one's own."""
    states, commitments = commit(mode)
    states, openings = reveal(states, commitments)
    states, contributions, handovers = contribute(states, openings)
    other = contributions[partner(holder)]
    contributions[holder] = dataclasses.replace(contributions[holder], content=other.content)
    taker = partner(holder)
    violated(
        "CONTRIBUTION_INVALID",
        holder,
        lambda: states[taker].finish(contributions, handovers[holder]),
    )


def test_noise_that_is_too_large_or_no_multiple_is_named():
    states, commitments = commit(Mode.BGV)
    states, openings = reveal(states, commitments)
    states, contributions, handovers = contribute(states, openings)
    parameters = OF_MODE[Mode.BGV]
    for added in (1, parameters.noise_factor * 3 * NOISE_COINS):
        residues = np.frombuffer(contributions[1].content, parameters.word).astype(np.uint64)
        primes = np.array(parameters.primes, np.uint64)[:, None]
        # A constant polynomial has the same value everywhere.
        shifted = (residues.reshape(len(primes), -1) + added % primes) % primes
        spoilt = dataclasses.replace(
            contributions[1], content=shifted.astype(parameters.word).tobytes()
        )
        violated(
            "CONTRIBUTION_INVALID",
            1,
            lambda sent=spoilt: states[2].finish({**contributions, 1: sent}, handovers[1]),
        )


def test_a_handover_of_another_secret_is_named():
    states, commitments = commit(Mode.CKKS)
    states, openings = reveal(states, commitments)
    states, contributions, handovers = contribute(states, openings)
    degree = OF_MODE[Mode.CKKS].degree
    other = Component(sampling.ternary(seeded("other"), degree), handovers[3].component.seed)
    wrong = Handover(Mode.CKKS, 3, other)
    violated("CONTRIBUTION_INVALID", 3, lambda: states[1].finish(contributions, wrong))
    # And one of somebody else.
    violated("CEREMONY_MISMATCH", 3, lambda: states[1].finish(contributions, handovers[2]))


def test_holders_that_saw_different_messages_notice():
    states, commitments = commit(Mode.BGV)
    states, openings = reveal(states, commitments)
    states, contributions, handovers = contribute(states, openings)
    states, confirmations = finish(states, contributions, handovers)
    confirmations[3] = dataclasses.replace(confirmations[3], content=bytes(32))
    for holder in (1, 2):
        violated("CEREMONY_MISMATCH", 3, lambda own=holder: states[own].confirm(confirmations))


def test_messages_of_others_in_ones_name_are_noticed():
    states, commitments = commit(Mode.BGV)
    changed = dataclasses.replace(commitments[1], content=bytes(32))
    violated("CEREMONY_MISMATCH", 1, lambda: states[1].reveal({**commitments, 1: changed}))
    swapped = {**commitments, 2: commitments[3]}
    violated("CEREMONY_MISMATCH", 2, lambda: states[1].reveal(swapped))
    other = dataclasses.replace(commitments[2], mode=Mode.CKKS)
    violated("CEREMONY_MISMATCH", 2, lambda: states[1].reveal({**commitments, 2: other}))


def test_a_missing_message_is_waited_for():
    states, commitments = commit(Mode.BGV)
    del commitments[3]
    with pytest.raises(StateError) as caught:
        states[1].reveal(commitments)
    assert caught.value.code == "CEREMONY_INCOMPLETE"


@pytest.mark.parametrize(
    ("mode", "holder", "context"),
    [
        (Mode.PAILLIER, 1, CONTEXT),
        (Mode.BGV, 0, CONTEXT),
        (Mode.BGV, 4, CONTEXT),
        (Mode.BGV, 1, b""),
    ],
)
def test_impossible_ceremonies_are_refused(mode, holder, context):
    with pytest.raises(InvalidArgumentError) as caught:
        lattice_ceremony.begin(mode, holder, context)
    assert caught.value.code == "CEREMONY_ARGUMENT"


@by_mode
def test_messages_come_back_from_their_bytes(mode):
    states, commitments = commit(mode)
    states, openings = reveal(states, commitments)
    states, contributions, handovers = contribute(states, openings)
    _, confirmations = finish(states, contributions, handovers)
    for message in (commitments[1], openings[2], contributions[3], confirmations[1], handovers[2]):
        data = message.to_bytes()
        assert len(data) == type(message).size(mode)
        assert type(message).from_bytes(data) == message
    assert isinstance(handovers[1].to_bytes(), SecretBytes)


def test_secrets_of_a_ceremony_do_not_show():
    states, commitments = commit(Mode.BGV)
    shown = repr(states)
    states, openings = reveal(states, commitments)
    assert openings[1].content.hex() not in shown
    assert repr(openings[1].content) not in shown
    states, _, handovers = contribute(states, openings)
    for handover in handovers.values():
        secret = handover.component.seed.expose()
        for text in (repr(handover), repr(states)):
            assert repr(secret)[2:-1] not in text
            assert secret.hex() not in text


@by_mode
@pytest.mark.parametrize("kind", [Commitment, Opening, Contribution, Confirmation, Handover])
def test_malformed_messages_are_refused(mode, kind):
    size = kind.size(mode)
    number = {Mode.BGV: 1, Mode.CKKS: 2}[mode]
    wrap = SecretBytes if kind is Handover else bytes
    head = b"FSLC\x01" + bytes([kind.kind, number])
    content = bytes(size - 8)
    assert kind.from_bytes(wrap(head + b"\x02" + content)).holder == 2
    wrong = [
        b"",
        head,
        head + b"\x00" + content,
        head + b"\x04" + content,
        head + b"\x01" + content + b"\x00",
        head + b"\x01" + content[:-1],
        b"FSLC\x02" + head[5:] + b"\x01" + content,
        head[:-1] + b"\x03\x01" + content,
        head[:5] + b"\x09" + head[6:] + b"\x01" + content,
    ]
    if kind in (Contribution, Handover):
        wrong.append(head + b"\x01" + b"\xff" * len(content))
    for data in wrong:
        with pytest.raises(IntegrityError) as caught:
            kind.from_bytes(wrap(data))
        assert caught.value.code == "CEREMONY_MALFORMED"
