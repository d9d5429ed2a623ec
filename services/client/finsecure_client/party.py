"""What a client brings to every round, and the calls that a round needs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from finsecure_crypto.homomorphic.rounds import EncryptedInputHeader
from finsecure_crypto.secagg import messages
from finsecure_crypto.secagg.membership import Identity
from finsecure_rpc.federation_minima import Minima

from finsecure_client.encryption_keys import EncryptionKeys
from finsecure_client.ledger import Ledger
from finsecure_client.models import ModelCache, ModelSource
from finsecure_client.policy import Policy
from finsecure_client.trainer import Trainer
from finsecure_client.trust import Trust


class RoundService(ModelSource, Protocol):
    """The calls of a round, as `transport.Aggregator` makes them."""

    async def advertise_keys(self, name: str, message: messages.KeyAdvertisement) -> None:
        """Phase 1."""

    async def share_keys(self, name: str, message: messages.KeyShares) -> None:
        """Phase 2."""

    async def upload_status(self, name: str) -> tuple[int, bool]:
        """Bytes on disk, and whether the input is accepted."""

    async def submit_input(
        self,
        name: str,
        header: messages.MaskedInputHeader | EncryptedInputHeader,
        content: memoryview,
        start: int,
    ) -> tuple[int, bool]:
        """Upload from byte `start` on."""

    async def confirm_survivors(self, name: str, message: messages.SurvivorConfirmation) -> None:
        """Phase 4."""

    async def reveal_shares(self, name: str, message: messages.RevealedShares) -> None:
        """Phase 5."""

    async def decline_round(self, name: str, reason: str) -> None:
        """Leave the round."""


@dataclass(frozen=True)
class Party:
    """What a client brings to every round.

    Attributes:
        service: the aggregator.
        identity: returns the newest identity; a round keeps the one that it began with.
        trust: verifies peers and models.
        keys: gives verified encryption keys.
        policy: what the client takes part in at all.
        minima: what the federation demands of cohorts beside the own policy.
        ledger: which rounds have got an input already.
        models: downloaded models.
        trainer: trains and evaluates.
        worker: the one thread on which it does so.
    """

    service: RoundService
    identity: Callable[[], Identity]
    trust: Trust
    keys: EncryptionKeys
    policy: Policy
    minima: Minima
    ledger: Ledger
    models: ModelCache
    trainer: Trainer
    worker: ThreadPoolExecutor
