"""An encrypted round: signed ciphertexts are examined, added, and opened with the trustees."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from finsecure_crypto.errors import ProtocolViolationError, StateError
from finsecure_crypto.homomorphic.decryption import Contribution
from finsecure_crypto.homomorphic.rounds import (
    CollectEncryptedInputs,
    EncryptedInputHeader,
    EncryptedRoundParameters,
)

from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.ciphers import CipherSum, InputShape
from finsecure_aggregator.clock import Clock
from finsecure_aggregator.encryption import EncryptionDesk, HeldKey, Opening
from finsecure_aggregator.examination import examine
from finsecure_aggregator.instructions import Body, ClientMessage, EncryptedInvitation
from finsecure_aggregator.opening import SumOpener
from finsecure_aggregator.records import ENCRYPTED_PHASES, RoundState, TrusteeAnswer
from finsecure_aggregator.round_protocol import Sums
from finsecure_aggregator.verifier import RoundVerifier


class EncryptedRound:
    """The protocol of an encrypted round; see `round_protocol.RoundProtocol`.

    Args:
        invitation: the round, its task, its model and its key.
        parameters: its public parameters.
        verify: checks the clients' certificates.
        blobs: where the inputs are.
        desk: workers and trustees.
        key: that the inputs are encrypted under.
        shape: of an input.
        clock: time.
    """

    phases = ENCRYPTED_PHASES
    finale = RoundState.OPENING

    def __init__(
        self,
        invitation: EncryptedInvitation,
        parameters: EncryptedRoundParameters,
        verify: RoundVerifier,
        blobs: Blobs,
        desk: EncryptionDesk,
        key: HeldKey,
        shape: InputShape,
        clock: Clock,
    ) -> None:
        record = invitation.invitation.round
        self._invitation = invitation
        self._parameters = parameters
        self._verify = verify
        self._blobs = blobs
        self._desk = desk
        self._key = key
        self._shape = shape
        self._round = record.key
        self._collector = CollectEncryptedInputs(
            parameters, shape.input_bytes, shape.proof_bytes, frozenset(record.invited), verify
        )
        self.blamed: list[tuple[str, str]] = []
        self._manifest: Sequence[Contribution] = ()
        self._sum = CipherSum(desk.workers, key.file, shape)
        self._opener = SumOpener(
            desk, key, parameters.layout, blobs.opening_folder(record.key), clock
        )

    @property
    def input_bytes(self) -> int:
        """Bytes of an input: its ciphertexts, and the proof behind them if any."""
        return self._shape.input_bytes

    @property
    def expected(self) -> frozenset[str]:
        """Clients that may answer."""
        return self._collector.expected

    def restoring(self) -> AbstractContextManager[None]:
        """Trust certificates from the own log: one that has expired since does not undo it."""
        return self._verify.trusting()

    def check(self, client: str, message: ClientMessage) -> bool:
        """Verify a header without accepting it."""
        return self._collector.check(client, _header(client, message))

    def accept(self, client: str, message: ClientMessage) -> bool:
        """Verify and accept a header."""
        return self._collector.accept(client, _header(client, message))

    def enough(self) -> bool:
        """Whether the minimum cohort is there."""
        try:
            self._collector.close()
        except StateError:
            return False
        return True

    def turn(self, phase: RoundState) -> None:
        """Fix whose inputs are summed."""
        self._manifest = self._collector.close()

    def instruction(self, client: str) -> Body:
        """Train, encrypt and submit."""
        return self._invitation

    async def examine_input(self, client: str) -> None:
        """Let a worker parse every ciphertext and verify the proof.

        Raises:
            ProtocolViolationError: what `examine` refuses; the client's fault.
        """
        path = self._blobs.input_path(self._round, client)
        binding = self._parameters.binding().input_binding(client)
        await examine(self._desk.workers, self._key.file, self._shape, path, client, binding)

    async def add_inputs(self, clients: Sequence[str]) -> None:
        """Add accepted inputs to the sum."""
        if clients:
            await asyncio.to_thread(self._sum.add, self._paths(clients))

    async def sum(self, deadline_ns: int) -> Sums:
        """Let trustees open the sum, without those whose contribution they refuse.

        Everything in the request follows from the log and from what trustees answer, so after a
        restart it is the same again.

        Raises:
            StateError: TOO_FEW_INPUTS, or what `SumOpener.open` raises, as any other error.
        """
        while True:
            try:
                return await self._open(deadline_ns)
            except ProtocolViolationError as error:
                left = [each for each in self._manifest if each.client != error.culprit]
                self.blamed.append((str(error.culprit), error.code))
                if len(left) < self._parameters.minimum_cohort:
                    raise StateError(
                        "TOO_FEW_INPUTS",
                        f"without the input of {error.culprit}, which trustees refuse "
                        f"({error.code}), {len(left)} are left where "
                        f"{self._parameters.minimum_cohort} are needed",
                    ) from error
                self._manifest = left
                await asyncio.to_thread(self._sum.close)
                self._sum = CipherSum(self._desk.workers, self._key.file, self._shape)
                await self.add_inputs([each.client for each in left])

    async def _open(self, deadline_ns: int) -> Sums:
        total = self._blobs.opening_folder(self._round) / "total"
        sha256 = await asyncio.to_thread(self._sum.write, total)
        opening = Opening.of(
            self._parameters.binding(),
            self._manifest,
            self._paths([contribution.client for contribution in self._manifest]),
            self._shape.input_bytes,
            sha256,
        )
        return await self._opener.open(opening, total, deadline_ns)

    def trustees(self) -> Sequence[TrusteeAnswer]:
        """What trustees have said so far."""
        return self._opener.answers()

    async def close(self) -> None:
        """Let go of the worker that sums."""
        await asyncio.to_thread(self._sum.close)

    def _paths(self, clients: Sequence[str]) -> list[Path]:
        return [self._blobs.input_path(self._round, client) for client in clients]


def _header(client: str, message: ClientMessage) -> EncryptedInputHeader:
    if not isinstance(message, EncryptedInputHeader):
        raise ProtocolViolationError(
            "PROTECTION_MISMATCH",
            f"{client} sent an input without a certificate to an encrypted round",
            culprit=client,
        )
    return message
