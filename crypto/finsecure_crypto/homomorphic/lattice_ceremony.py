"""The key of a lattice mode, made by its three holders together: no dealer, nobody ever has it.

    begin       each holder draws a seed and commits to it                  → all: Commitment
    reveal      all seeds together give the common element a                → all: Opening
    contribute  draws s_j and publishes b_j = -(a·s_j + noise)              → all: Contribution
                and hands s_j, with a seed for flooding, to its partner     → partner: Handover
    finish      checks that what it was handed fits what was published;
                b = Σ b_j                                                   → all: Confirmation
    confirm     all three have the same key

The threshold key generation of Asharov et al. (EUROCRYPT 2012), section 3, with the sharing of
`lattice.opening`. Commitments keep the last holder from choosing a. That a partner knows s_j with
small noise keeps a holder from publishing a b_j that cancels the others'. A state is used once and
lives in memory alone: after any error, or a restart, all begin again under a new context. Who sent
a message is for the transport to prove.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from finsecure_crypto import transcript
from finsecure_crypto.errors import InvalidArgumentError, ProtocolViolationError, StateError
from finsecure_crypto.homomorphic.bgv import BgvKey
from finsecure_crypto.homomorphic.ckks import CkksKey
from finsecure_crypto.homomorphic.lattice import sampling
from finsecure_crypto.homomorphic.lattice.components import SEED_BYTES, Component
from finsecure_crypto.homomorphic.lattice.keys import LatticeKey, LatticeShare
from finsecure_crypto.homomorphic.lattice.messages import (
    Commitment,
    Confirmation,
    Contribution,
    Handover,
    Opening,
)
from finsecure_crypto.homomorphic.lattice.opening import partner, predecessor
from finsecure_crypto.homomorphic.lattice.parameters import HOLDERS, NOISE_COINS
from finsecure_crypto.homomorphic.lattice.seal_bytes import Residues
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.scheme import CONTEXT_BYTES
from finsecure_crypto.randomness import Randomness, draw, draw_secret

__all__ = [
    "Commitment",
    "Committed",
    "Confirmation",
    "Contributed",
    "Contribution",
    "Finished",
    "Handover",
    "Opening",
    "Revealed",
    "begin",
    "partner",
]

_KEYS: dict[Mode, type[LatticeKey]] = {Mode.BGV: BgvKey, Mode.CKKS: CkksKey}

M = TypeVar("M", Commitment, Opening, Contribution, Confirmation)


@dataclass(frozen=True)
class _Place:
    """Who takes part, and in what: the same in all states of a holder."""

    mode: Mode
    holder: int
    context: bytes

    def commitment(self, holder: int, seed: bytes) -> Commitment:
        digest = transcript.digest("lattice-seed", self.context, self.mode.value, holder, seed)
        return Commitment(self.mode, holder, digest)

    def collect(self, messages: Mapping[int, M], own: M) -> dict[int, M]:
        """Orders the messages of all holders, and makes sure that they are theirs."""
        missing = [h for h in range(1, HOLDERS + 1) if h not in messages]
        if missing:
            raise StateError(
                "CEREMONY_INCOMPLETE", f"holder {missing[0]} has not sent its message; wait for it"
            )
        for holder in range(1, HOLDERS + 1):
            self.expect(messages[holder], holder)
        if messages[self.holder] != own:
            raise _violation("CEREMONY_MISMATCH", self.holder, "its message was changed on its way")
        return {holder: messages[holder] for holder in range(1, HOLDERS + 1)}

    def expect(self, message: M | Handover, holder: int) -> None:
        if message.holder != holder or message.mode is not self.mode:
            raise _violation("CEREMONY_MISMATCH", holder, "it sent a message of another ceremony")


def begin(
    mode: Mode, holder: int, context: bytes, randomness: Randomness = os.urandom
) -> tuple["Committed", Commitment]:
    """Starts a ceremony as one of its holders.

    Args:
        mode: BGV or CKKS.
        holder: 1 to 3.
        context: 32 bytes, a digest of all that names this ceremony and nothing else.
        randomness: of the seed.

    Raises:
        InvalidArgumentError: `CEREMONY_ARGUMENT`; the caller's.
    """
    if mode not in _KEYS or not 1 <= holder <= HOLDERS or len(context) != CONTEXT_BYTES:
        raise InvalidArgumentError(
            "CEREMONY_ARGUMENT",
            f"a ceremony makes a bgv or ckks key, has holders 1 to {HOLDERS} and a context of "
            f"{CONTEXT_BYTES} bytes",
        )
    place, seed = _Place(mode, holder, context), draw(randomness, SEED_BYTES)
    own = place.commitment(holder, seed)
    return Committed(place, Opening(mode, holder, seed), own), own


@dataclass(frozen=True)
class Committed:
    """A holder that has sent its commitment."""

    _place: _Place
    _opening: Opening = field(repr=False)
    _own: Commitment

    def reveal(self, commitments: Mapping[int, Commitment]) -> tuple["Revealed", Opening]:
        """Opens the commitment, now that nobody can change its own.

        Args:
            commitments: of all holders, this one's included.

        Raises:
            StateError: `CEREMONY_INCOMPLETE` when one is missing.
            ProtocolViolationError: `CEREMONY_MISMATCH` for a message of another ceremony.
        """
        collected = self._place.collect(commitments, self._own)
        return Revealed(self._place, collected, self._opening), self._opening


@dataclass(frozen=True)
class Revealed:
    """A holder that has sent its seed."""

    _place: _Place
    _commitments: dict[int, Commitment]
    _own: Opening

    def contribute(
        self, openings: Mapping[int, Opening], randomness: Randomness = os.urandom
    ) -> tuple["Contributed", Contribution, Handover]:
        """Draws a component, and publishes its term of the key.

        Args:
            openings: of all holders, this one's included.
            randomness: of the component and its noise.

        Returns:
            The next state, the message for all, and the one for `partner(holder)` only.

        Raises:
            StateError: `CEREMONY_INCOMPLETE` when one is missing.
            ProtocolViolationError: `CEREMONY_MISMATCH`, or `COMMITMENT_BROKEN` for an opening that
                does not fit; with the culprit.
        """
        place = self._place
        collected = place.collect(openings, self._own)
        for holder, opening in collected.items():
            if place.commitment(holder, opening.content) != self._commitments[holder]:
                raise _violation("COMMITMENT_BROKEN", holder, "its seed is not the committed one")
        seed = transcript.digest(
            "lattice-common",
            place.context,
            place.mode.value,
            *(opening.content for opening in collected.values()),
        )
        system = _KEYS[place.mode].system
        parameters, ring = system.parameters, system.key_ring
        component = Component(
            sampling.ternary(randomness, parameters.degree), draw_secret(randomness, SEED_BYTES)
        )
        errors = ring.reduce(sampling.noise(randomness, parameters.degree)[None])
        noise = ring.forward(errors, parameters.noise_factor)
        mask = sampling.uniform(seed, parameters.degree, parameters.primes)
        term = ring.negate(ring.add(_product(place.mode, mask, component), noise[0]))
        own = Contribution(place.mode, place.holder, term.astype(parameters.word).tobytes())
        handover = Handover(place.mode, place.holder, component)
        return Contributed(place, seed, component, own), own, handover


@dataclass(frozen=True)
class Contributed:
    """A holder that has published its term of the key."""

    _place: _Place
    _seed: bytes
    _component: Component
    _own: Contribution

    def finish(
        self, contributions: Mapping[int, Contribution], handover: Handover
    ) -> tuple["Finished", Confirmation]:
        """Checks the component that was handed over, and adds up the key.

        Args:
            contributions: of all holders, this one's included.
            handover: from this holder's predecessor, whose partner it is.

        Raises:
            StateError: `CEREMONY_INCOMPLETE` when one is missing.
            ProtocolViolationError: `CEREMONY_MISMATCH`, or `CONTRIBUTION_INVALID` when what was
                published is not that component with small noise; with the culprit.
        """
        place = self._place
        collected = place.collect(contributions, self._own)
        giver = predecessor(place.holder)
        place.expect(handover, giver)
        key_class = _KEYS[place.mode]
        parameters, ring = key_class.system.parameters, key_class.system.key_ring
        mask = sampling.uniform(self._seed, parameters.degree, parameters.primes)
        terms = {
            holder: np.frombuffer(message.content, parameters.word)
            .astype(np.uint64)
            .reshape(mask.shape)
            for holder, message in collected.items()
        }
        rest = ring.add(terms[giver], _product(place.mode, mask, handover.component))
        inverses = tuple(pow(parameters.noise_factor, -1, prime) for prime in ring.primes)
        noise = ring.centre(ring.inverse(ring.scale(rest[None], inverses)))[0]
        if np.any(np.abs(noise) > NOISE_COINS) or np.any(noise != noise[0]):
            raise _violation(
                "CONTRIBUTION_INVALID", giver, "what it published is not what it handed over"
            )
        body = ring.add(ring.add(terms[1], terms[2]), terms[3])
        key = key_class(self._seed, body.astype(parameters.word).tobytes())
        components = self._component, handover.component
        share = LatticeShare(key_class.system, place.holder, key.digest(), components)
        own = Confirmation(place.mode, place.holder, key.digest())
        return Finished(place, key, share, own), own


@dataclass(frozen=True)
class Finished:
    """A holder that has a key and a share, and does not know yet whether the others agree."""

    _place: _Place
    _key: LatticeKey
    _share: LatticeShare
    _own: Confirmation

    def confirm(self, confirmations: Mapping[int, Confirmation]) -> tuple[LatticeKey, LatticeShare]:
        """Returns the key and this holder's share, once all three arrived at the same key.

        Args:
            confirmations: of all holders, this one's included.

        Raises:
            StateError: `CEREMONY_INCOMPLETE` when one is missing.
            ProtocolViolationError: `CEREMONY_MISMATCH` when one is about another key: holders saw
                different messages.
        """
        for holder, message in self._place.collect(confirmations, self._own).items():
            if message.content != self._own.content:
                raise _violation("CEREMONY_MISMATCH", holder, "it arrived at another key")
        return self._key, self._share


def _product(mode: Mode, mask: Residues, component: Component) -> Residues:
    """Multiplies a by a component, as values over the primes of a key."""
    ring = _KEYS[mode].system.key_ring
    secret = sampling.coefficients(component.coefficients)
    product: Residues = ring.multiply(mask[None], ring.forward(ring.reduce(secret[None]))[0])[0]
    return product


def _violation(code: str, holder: int, reason: str) -> ProtocolViolationError:
    return ProtocolViolationError(
        code,
        f"holder {holder}: {reason}; give up this ceremony and begin again",
        culprit=str(holder),
    )
