"""The server's side of secure aggregation, one collector for each phase.

Bonawitz et al., CCS 2017, figure 4, server column. A collector verifies and accepts messages until
its caller, who has the clock, closes it, and `close` returns the next phase's collector. Closing
changes nothing, so it can be tried again after more messages when too few had answered. Replaying
the accepted messages in order through fresh collectors restores a round. A collector belongs to
one thread at a time.

The vectors themselves are summed by the caller, word by word modulo 2^64:
`apply_masks(sum, unmasking.masks)` then leaves the sum of the inputs.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from finsecure_crypto.agreement import KeyPair
from finsecure_crypto.errors import FinSecureError, InvalidArgumentError, ProtocolViolationError
from finsecure_crypto.secagg import bitmaps, statements
from finsecure_crypto.secagg.collector import Collector, History, violation
from finsecure_crypto.secagg.envelope import CIPHERTEXT_BYTES
from finsecure_crypto.secagg.messages import (
    KeyAdvertisement,
    KeyShares,
    MaskedInputHeader,
    ShareDelivery,
    SurvivorConfirmation,
)
from finsecure_crypto.secagg.parameters import RoundParameters
from finsecure_crypto.secagg.phases import Phase
from finsecure_crypto.secagg.roster import Peer, SealedRoster, VerifyPeer, verify_advertisement
from finsecure_crypto.secagg.roster_collector import (
    Masked,
    RosterCollector,
    ServerRound,
    require,
)
from finsecure_crypto.secagg.unmasking import CollectReveals, Unmasking
from finsecure_crypto.secret import SecretBytes

__all__ = [
    "CollectAdvertisements",
    "CollectConfirmations",
    "CollectInputs",
    "CollectReveals",
    "CollectShares",
    "Unmasking",
]

# Any key pair finds points of small order out; their shared secret is zero with all.
_PROBE = KeyPair.from_seed(SecretBytes(bytes(32)))


class CollectAdvertisements(Collector[KeyAdvertisement]):
    """Phase 1, AdvertiseKeys: collects public keys (the paper's U1).

    Args:
        parameters: the round.
        invited: ids of the clients that may take part, at most the layout's cohort.
        verify_peer: checks a client's certificate and returns its Ed25519 key. When a round is
            restored, it has to judge by the time at which the message came.

    Raises:
        InvalidArgumentError: `TOO_MANY_INVITED`; the caller's.
    """

    phase = Phase.ADVERTISE_KEYS

    def __init__(
        self, parameters: RoundParameters, invited: frozenset[str], verify_peer: VerifyPeer
    ) -> None:
        super().__init__(invited, {})
        if len(invited) > parameters.layout.cohort:
            raise InvalidArgumentError(
                "TOO_MANY_INVITED",
                f"{len(invited)} clients are invited, the layout's lanes are sized for "
                f"{parameters.layout.cohort}",
            )
        self.parameters = parameters
        self._context = parameters.context()
        self._verify_peer = verify_peer
        self._advertisements: dict[str, KeyAdvertisement] = {}
        self._peers: dict[str, Peer] = {}
        self._keys: set[bytes] = set()

    def check(self, message: KeyAdvertisement) -> bool:
        """Verifies an advertisement without accepting it.

        Returns:
            True for one to accept, False for one that was accepted before.

        Raises:
            ProtocolViolationError: `DUPLICATE_MESSAGE`, `PEER_KEY_INVALID`, `KEYS_NOT_DISTINCT` or
                `ADVERTISEMENT_SIGNATURE`; `culprit` names the client.
            PermissionDeniedError: `CLIENT_NOT_EXPECTED`.
            FinSecureError: whatever `verify_peer` raises.
        """
        return self._verified(message) is not None

    def accept(self, message: KeyAdvertisement) -> bool:
        """Verifies and accepts an advertisement; raises and returns as `check`.

        That its client is who sent it is for the caller to check.
        """
        peer = self._verified(message)
        if peer is None:
            return False
        self._keys |= {message.channel_key, message.mask_key}
        self._advertisements[message.client] = message
        self._peers[message.client] = peer
        self._record(message.client, message)
        return True

    def close(self) -> "CollectShares":
        """Seals the roster.

        Raises:
            StateError: `COHORT_TOO_SMALL`; wait for more, or abort.
        """
        require("COHORT_TOO_SMALL", len(self._accepted), self.parameters.minimum_cohort)
        roster = SealedRoster(self.parameters, self._advertisements.values())
        return CollectShares(
            ServerRound(self.parameters, roster, tuple(self._peers[c] for c in roster.clients)),
            self._history,
        )

    def _verified(self, message: KeyAdvertisement) -> Peer | None:
        if not self._is_new(message.client, message):
            return None
        keys = {message.channel_key, message.mask_key}
        try:
            for key in keys:
                _PROBE.exchange(key)
        except ProtocolViolationError as error:
            raise violation(error.code, message.client, error.message) from None
        if len(keys) != 2 or keys & self._keys:
            raise violation("KEYS_NOT_DISTINCT", message.client, "it advertised a key twice")
        try:
            return verify_advertisement(self._context, message, self._verify_peer)
        except FinSecureError as error:
            error.culprit = message.client
            raise


class CollectShares(RosterCollector[KeyShares]):
    """Phase 2, ShareKeys: collects encrypted shares (the paper's U2)."""

    phase = Phase.SHARE_KEYS

    def __init__(self, round_: ServerRound, history: History) -> None:
        super().__init__(round_, frozenset(round_.roster.clients), history)
        self._dealt: dict[int, _Dealt] = {}

    def _verify(self, client: str, message: KeyShares) -> None:
        neighbours = self._graph.neighbours(self._index(client)).tolist()
        if list(message.shares) != neighbours:
            raise violation("WRONG_SHARE_SET", client, "it did not share with its neighbours")
        if set(map(len, message.shares.values())) != {CIPHERTEXT_BYTES}:
            raise violation("SHARE_LENGTH", client, f"a share has not {CIPHERTEXT_BYTES} bytes")
        statement = statements.share_keys(
            self._round.session, message.self_mask_commitment, message.shares_digest
        )
        self._require_signature(client, message.signature, statement)

    def _keep(self, client: str, message: KeyShares) -> None:
        self._dealt[self._index(client)] = _Dealt(
            list(message.shares), b"".join(message.shares.values()), message.self_mask_commitment
        )

    def close(self) -> "CollectInputs":
        """Fixes who has shared.

        Raises:
            StateError: `TOO_FEW_SHARERS`; wait for more, or abort.
        """
        sharers = self._closed("TOO_FEW_SHARERS")
        return CollectInputs(self._round, self._history, sharers, dict(self._dealt))


@dataclass(frozen=True)
class _Dealt:
    """One client's encrypted shares, in one piece: a roster has a great many of them."""

    receivers: Sequence[int] = field(repr=False)
    ciphertexts: bytes = field(repr=False)
    commitment: bytes

    def to(self, receiver: int) -> bytes:
        start = CIPHERTEXT_BYTES * bisect_left(self.receivers, receiver)
        return self.ciphertexts[start : start + CIPHERTEXT_BYTES]


class CollectInputs(RosterCollector[MaskedInputHeader]):
    """Phase 3, SubmitMaskedInput: collects what says that a vector is whole (the paper's U3).

    `check` verifies a header before its vector is received; `accept` means that the vector is
    there and its digest was compared.
    """

    phase = Phase.SUBMIT_MASKED_INPUT

    def __init__(
        self,
        round_: ServerRound,
        history: History,
        sharers: bitmaps.Members,
        dealt: dict[int, _Dealt],
    ) -> None:
        super().__init__(round_, round_.ids(sharers), history)
        self._sharers = sharers
        self._dealt = dealt

    def delivery(self, client: str) -> ShareDelivery:
        """Returns what a client that has shared is sent: who shared, and their shares for it."""
        index = self._index(client)
        neighbours = self._graph.neighbours(index)
        senders = neighbours[self._sharers[neighbours]].tolist()
        return ShareDelivery(
            bitmaps.pack(self._sharers),
            {sender: self._dealt[sender].to(index) for sender in senders},
        )

    def _verify(self, client: str, message: MaskedInputHeader) -> None:
        if message.size_bytes != self.parameters.input_bytes:
            raise violation(
                "WRONG_INPUT_SIZE",
                client,
                f"its vector has {message.size_bytes} bytes, the round's have "
                f"{self.parameters.input_bytes}",
            )
        statement = statements.masked_input(self._round.session, message.size_bytes, message.sha256)
        self._require_signature(client, message.signature, statement)

    def _keep(self, client: str, message: MaskedInputHeader) -> None:
        """Keeps nothing: the vector is the caller's."""

    def close(self) -> "CollectConfirmations":
        """Fixes whose inputs are summed.

        Raises:
            StateError: `TOO_FEW_INPUTS`; wait for more, or abort.
        """
        survivors = self._closed("TOO_FEW_INPUTS", self._sharers)
        commitments = {index: dealt.commitment for index, dealt in self._dealt.items()}
        masked = Masked(self._sharers, survivors, commitments)
        return CollectConfirmations(self._round, self._history, masked)


class CollectConfirmations(RosterCollector[SurvivorConfirmation]):
    """Phase 4, ConfirmSurvivors: collects signatures over the survivors (the paper's U4).

    Attributes:
        survivors: bitmap over the roster of the clients whose inputs are summed.
    """

    phase = Phase.CONFIRM_SURVIVORS

    def __init__(self, round_: ServerRound, history: History, masked: Masked) -> None:
        super().__init__(round_, round_.ids(masked.survivors), history)
        self.survivors = bitmaps.pack(masked.survivors)
        self._masked = masked
        self._signatures: dict[int, bytes] = {}

    def _verify(self, client: str, message: SurvivorConfirmation) -> None:
        statement = statements.survivors(self._round.session, self.survivors)
        self._require_signature(client, message.signature, statement)

    def _keep(self, client: str, message: SurvivorConfirmation) -> None:
        self._signatures[self._index(client)] = message.signature

    def close(self) -> "CollectReveals":
        """Fixes who is asked for shares.

        Raises:
            StateError: `TOO_FEW_CONFIRMATIONS`; wait for more, or abort.
        """
        confirmed = self._round.members(self.accepted)
        self._round.require_holders("TOO_FEW_CONFIRMATIONS", self._masked.sharers, confirmed)
        return CollectReveals(self._round, self._history, self._masked, dict(self._signatures))
