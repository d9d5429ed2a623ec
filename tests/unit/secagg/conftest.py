"""A round of five clients that tests stop at any phase, to play one side falsely."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.secagg import client, envelope, server
from finsecure_crypto.secagg.parameters import ClientPolicy, RoundParameters

from tests.support.secagg import (
    PERMISSIVE,
    SPARSE,
    Federation,
    deterministic,
    make_inputs,
    make_parameters,
)


@dataclass
class Stage:
    """Runs a round phase by phase; both sides' states stay open to the test."""

    parameters: RoundParameters
    federation: Federation
    policy: ClientPolicy = PERMISSIVE
    states: dict = field(default_factory=dict)
    said: dict = field(default_factory=dict)
    vectors: dict = field(default_factory=dict)
    collector: object = None
    waiting: dict = field(default_factory=dict)

    def __post_init__(self):
        self.names = list(self.federation.identities)
        self.inputs = make_inputs(self.parameters, self.names)
        self.random = {name: deterministic(name) for name in self.names}

    @property
    def verify(self):
        return self.federation.verify_peer

    def advertise(self):
        self.collector = server.CollectAdvertisements(
            self.parameters, frozenset(self.names), self.verify
        )
        for name in self.names:
            self.states[name], self.said[name] = client.advertise_keys(
                self.parameters,
                self.federation.identities[name],
                self.random[name],
                policy=self.policy,
            )
        return self

    def seal(self):
        self.advertise()
        for name in self.names:
            self.collector.accept(self.said[name])
        self.collector = self.collector.close()
        return self

    def share(self):
        self.seal()
        for name in self.names:
            self.states[name], self.said[name] = self.states[name].share_keys(
                self.collector.roster.for_client(name), self.verify, self.random[name]
            )
        return self

    def deliver(self):
        self.share()
        return self._accept()

    def mask(self):
        self.deliver()
        for name in self.names:
            self.states[name], submitted = self.states[name].mask_input(
                self.collector.delivery(name), self.inputs[name].copy()
            )
            self.said[name] = submitted.header
            self.vectors[name] = submitted.words
        self.waiting = dict(self.states)
        return self

    def survive(self, *dropped):
        self.mask()
        return self._accept(dropped)

    def confirm(self, *dropped):
        self.survive(*dropped)
        for name in self.names:
            if name not in dropped:
                self.states[name], self.said[name] = self.states[name].confirm_survivors(
                    self.collector.survivors
                )
        return self

    def sign(self, *dropped):
        self.confirm(*dropped)
        return self._accept(dropped)

    def reveal(self, *dropped):
        self.sign(*dropped)
        for name in self.names:
            if name not in dropped:
                self.states[name], self.said[name] = self.states[name].reveal_shares(
                    self.collector.confirmations(name)
                )
        return self

    def total(self, unmasking):
        """Sums the survivors' masked vectors and removes the masks."""
        total = np.zeros(self.parameters.layout.words, np.uint64)
        for name in unmasking.survivors:
            total += self.vectors[name]
        apply_masks(total, unmasking.masks)
        return total

    def shares_of(self, dealer, holder):
        """The two shares that a dealer gave a holder, of mask key and self mask, as bytes."""
        state = self.waiting[self.names[holder]]
        if dealer == holder:
            pair = state._held[holder]
        else:
            key, ciphertext = state._receiving_keys[dealer], state._ciphertexts[dealer]
            session = self.collector.roster.session.digest
            pair = envelope.open_(key, session, dealer, holder, ciphertext)
        return pair.mask_key.expose(), pair.self_mask.expose()

    def _accept(self, dropped=()):
        for name in self.names:
            if name not in dropped:
                assert self.collector.accept(name, self.said[name])
        self.collector = self.collector.close()
        return self


@pytest.fixture
def federation():
    return Federation.of(5)


@pytest.fixture
def stage(federation):
    return Stage(make_parameters(5), federation)


@pytest.fixture
def make_stage():
    """Makes a stage with parameters of its own."""

    def make(size, policy=PERMISSIVE, **changes):
        return Stage(make_parameters(size, **changes), Federation.of(size), policy)

    return make


@pytest.fixture
def sparse_stage(make_stage):
    stage = make_stage(40, graph=SPARSE)
    assert not stage.parameters.thresholds(40).complete
    return stage
