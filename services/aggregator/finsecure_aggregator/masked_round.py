"""A round under pairwise masks: the core's collectors, and the arithmetic over the words."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
from finsecure_crypto.errors import ProtocolViolationError, StateError
from finsecure_crypto.homomorphic.rounds import EncryptedInputHeader
from finsecure_crypto.secagg.messages import KeyAdvertisement
from finsecure_crypto.secagg.parameters import RoundParameters
from finsecure_crypto.secagg.server import (
    CollectAdvertisements,
    CollectConfirmations,
    CollectInputs,
    CollectReveals,
    CollectShares,
    Unmasking,
)
from numpy.typing import NDArray

from finsecure_aggregator.accumulator import Accumulator
from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.instructions import Body, ClientMessage, Invitation
from finsecure_aggregator.records import MASKED_PHASES, RoundState, TrusteeAnswer
from finsecure_aggregator.round_protocol import Sums
from finsecure_aggregator.slices import Slices
from finsecure_aggregator.verifier import RoundVerifier

_Collecting = (
    CollectAdvertisements | CollectShares | CollectInputs | CollectConfirmations | CollectReveals
)


class MaskedRound:
    """The protocol of a round under masks; see `round_protocol.RoundProtocol`.

    Args:
        invitation: the round, its task and its model.
        parameters: its public parameters.
        verify: checks the clients' certificates.
        blobs: where the inputs are.
        slices: where they are summed.
    """

    phases = MASKED_PHASES
    finale = RoundState.UNMASKING

    def __init__(
        self,
        invitation: Invitation,
        parameters: RoundParameters,
        verify: RoundVerifier,
        blobs: Blobs,
        slices: Slices,
    ) -> None:
        self._invitation = invitation
        self._parameters = parameters
        self._verify = verify
        self._blobs = blobs
        self._collector: _Collecting = CollectAdvertisements(
            parameters, frozenset(invitation.round.invited), verify
        )
        self._unmasking: Unmasking | None = None
        self._accumulator = Accumulator(parameters.layout.words, slices)

    @property
    def input_bytes(self) -> int:
        """Bytes of a masked input."""
        return self._parameters.input_bytes

    @property
    def expected(self) -> frozenset[str]:
        """Clients that may answer in the open phase."""
        return self._collector.expected

    @property
    def blamed(self) -> Sequence[tuple[str, str]]:
        """Those whose shares turned out to be wrong."""
        found = self._unmasking.blamed if self._unmasking is not None else ()
        return [(each.client, each.reason) for each in found]

    def restoring(self) -> AbstractContextManager[None]:
        """Trust certificates from the own log: one that has expired since does not undo it."""
        return self._verify.trusting()

    def check(self, client: str, message: ClientMessage) -> bool:
        """Verify a message without accepting it."""
        match self._collector, message:
            case _, EncryptedInputHeader():
                raise _encrypted(client)
            case CollectAdvertisements() as collector, KeyAdvertisement():
                return collector.check(message)
            case CollectAdvertisements(), _:
                raise RuntimeError("a message of a later phase has passed the attendance")
            case collector, _:
                return collector.check(client, message)

    def accept(self, client: str, message: ClientMessage) -> bool:
        """Verify and accept a message."""
        match self._collector, message:
            case _, EncryptedInputHeader():
                raise _encrypted(client)
            case CollectAdvertisements() as collector, KeyAdvertisement():
                return collector.accept(message)
            case CollectAdvertisements(), _:
                raise RuntimeError("a message of a later phase has passed the attendance")
            case collector, _:
                return collector.accept(client, message)

    def enough(self) -> bool:
        """Whether the open phase could close with those that have answered."""
        if isinstance(self._collector, CollectReveals):
            return self._collector.ready  # to close it is to rebuild all secrets
        try:
            self._collector.close()
        except StateError:
            return False
        return True

    def turn(self, phase: RoundState) -> None:
        """Close a phase and open the next."""
        closed = self._collector.close()
        if isinstance(closed, Unmasking):
            self._unmasking = closed
        else:
            self._collector = closed

    def instruction(self, client: str) -> Body:
        """What the open phase asks of a client."""
        match self._collector:
            case CollectAdvertisements():
                return self._invitation
            case CollectShares(roster=roster):
                return roster.for_client(client)
            case CollectInputs() as collector:
                return collector.delivery(client)
            case CollectConfirmations(survivors=survivors):
                return survivors
            case CollectReveals() as collector:
                return collector.confirmations(client)

    async def examine_input(self, client: str) -> None:
        """Any words are a masked input: there is nothing to see in them."""

    async def add_inputs(self, clients: Sequence[str]) -> None:
        """Add accepted inputs to the sum."""
        paths = [self._blobs.input_path(self._invitation.round.key, each) for each in clients]
        await asyncio.to_thread(self._accumulator.add_input, *paths)

    async def sum(self, deadline_ns: int) -> Sums:
        """Remove the masks and decode."""
        if self._unmasking is None:
            raise RuntimeError("a round is unmasked after its reveal phase has closed")
        unmasking, layout = self._unmasking, self._parameters.layout
        words: NDArray[np.uint64] = await asyncio.to_thread(
            self._accumulator.unmask, unmasking.masks
        )
        return await asyncio.to_thread(layout.decode, words, unmasking.contributors)

    def trustees(self) -> Sequence[TrusteeAnswer]:
        """Nobody: the clients themselves open the sum."""
        return ()

    async def close(self) -> None:
        """Let go of what sums the inputs."""
        await asyncio.to_thread(self._accumulator.close)


def _encrypted(client: str) -> ProtocolViolationError:
    return ProtocolViolationError(
        "PROTECTION_MISMATCH",
        f"{client} sent an encrypted input to a round under masks",
        culprit=client,
    )
