"""Clients and a server over the faulty network; every protocol step is the production function.

What is simulated is what an adapter does: repeat an unanswered message, answer a repeated
instruction with the first answer, close a phase when all have answered or its time is up.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from finsecure_crypto.errors import FinSecureError, StateError
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.secagg import client as client_side
from finsecure_crypto.secagg import server as server_side
from finsecure_crypto.secagg.messages import ClientMessage
from finsecure_crypto.secagg.parameters import RoundParameters
from finsecure_crypto.secagg.phases import STEPS, Phase, phase_of

from tests.support.faulty_network import Network
from tests.support.secagg import PERMISSIVE, Federation, Words, deterministic

Answer = tuple[ClientMessage, Words | None]

REPEAT_S = 2.0
PHASE_S = 60.0


@dataclass
class Client:
    """One client: it answers each instruction once and repeats the answer on demand."""

    name: str
    parameters: RoundParameters
    federation: Federation
    words: Words
    crashes_in: Phase | None = None
    state: object = None
    answers: dict[Phase, Answer] = field(default_factory=dict)

    def answer(
        self, phase: Phase, instruction: object
    ) -> tuple[ClientMessage, Words | None] | None:
        if phase is self.crashes_in:
            self.state = None
            self.answers.clear()
            self.crashes_in = None
            return None
        if phase in self.answers:
            return self.answers[phase]
        # A client that has restarted knows nothing of the round and stays silent.
        if phase is not Phase.ADVERTISE_KEYS and self.state is None:
            return None
        vector = None
        random = deterministic(f"{self.name}/{phase}")
        match phase:
            case Phase.ADVERTISE_KEYS:
                self.state, said = client_side.advertise_keys(
                    self.parameters,
                    self.federation.identities[self.name],
                    random,
                    policy=PERMISSIVE,
                )
            case Phase.SHARE_KEYS:
                self.state, said = self.state.share_keys(
                    instruction, self.federation.verify_peer, random
                )
            case Phase.SUBMIT_MASKED_INPUT:
                self.state, submitted = self.state.mask_input(instruction, self.words.copy())
                said, vector = submitted.header, submitted.words
            case Phase.CONFIRM_SURVIVORS:
                self.state, said = self.state.confirm_survivors(instruction)
            case _:
                self.state, said = self.state.reveal_shares(instruction)
        self.answers[phase] = (said, vector)
        return said, vector


class Server:
    """The aggregator's part: it owns the clock, the collectors and the running sum."""

    def __init__(
        self,
        network: Network,
        parameters: RoundParameters,
        federation: Federation,
        clients: dict[str, Client],
    ) -> None:
        self.network, self.clients = network, clients
        self.collector = server_side.CollectAdvertisements(
            parameters, frozenset(clients), federation.verify_peer
        )
        self.total = np.zeros(parameters.layout.words, np.uint64)
        self.summed: dict[str, Words] = {}
        self.unmasking: server_side.Unmasking | None = None
        self.failure: FinSecureError | None = None
        self.log: list[tuple[str, ClientMessage]] = []
        self.refused: list[FinSecureError] = []
        self._open()

    @property
    def over(self) -> bool:
        return self.unmasking is not None or self.failure is not None

    def _open(self) -> None:
        phase = self.collector.phase
        self.deadline = self.network.now + PHASE_S
        self.network.at(self.deadline, lambda: self._close(phase))
        self._instruct(phase)

    def _instruct(self, phase: Phase) -> None:
        if self.over or self.collector.phase is not phase:
            return
        for name in sorted(self.collector.expected - self.collector.accepted):
            instruction = self._instruction(name)
            self.network.send(self._at_client(name, phase, instruction))
        self.network.at(self.network.now + REPEAT_S, lambda: self._instruct(phase))

    def _instruction(self, name: str) -> object:
        match self.collector:
            case server_side.CollectShares():
                return self.collector.roster.for_client(name)
            case server_side.CollectInputs():
                return self.collector.delivery(name)
            case server_side.CollectConfirmations():
                return self.collector.survivors
            case server_side.CollectReveals():
                return self.collector.confirmations(name)
        return None

    def _at_client(self, name: str, phase: Phase, instruction: object) -> Callable[[], None]:
        def deliver() -> None:
            answer = self.clients[name].answer(phase, instruction)
            if answer is not None:
                self.network.send(lambda: self.receive(name, *answer))

        return deliver

    def receive(self, name: str, message: ClientMessage, vector: Words | None) -> None:
        if self.over:
            return
        try:
            if isinstance(self.collector, server_side.CollectAdvertisements):
                new = self.collector.accept(message)
            else:
                new = self.collector.accept(name, message)
        except FinSecureError as error:
            self.refused.append(error)
            return
        if new:
            self.log.append((name, message))
            if vector is not None:
                self.summed[name] = vector
                self.total += vector
            if self.collector.complete:
                self._close(phase_of(message))

    def _close(self, phase: Phase) -> None:
        if self.over or self.collector.phase is not phase:
            return
        try:
            closed = self.collector.close()
        except StateError as error:
            self.failure = error
            return
        if isinstance(closed, server_side.Unmasking):
            self.unmasking = closed
            apply_masks(self.total, closed.masks)
        else:
            self.collector = closed
            self._open()


def restore(
    parameters: RoundParameters,
    federation: Federation,
    invited: frozenset[str],
    log: list[tuple[str, ClientMessage]],
) -> server_side.Unmasking:
    """Folds a round from the log of its accepted messages, as a restarted server does."""
    collector = server_side.CollectAdvertisements(parameters, invited, federation.verify_peer)
    for step in STEPS:
        for name, message in log:
            if phase_of(message) is not step.phase:
                continue
            if isinstance(collector, server_side.CollectAdvertisements):
                assert collector.accept(message)
            else:
                assert collector.accept(name, message)
        collector = collector.close()
    return collector
