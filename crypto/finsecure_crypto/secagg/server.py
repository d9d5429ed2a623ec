"""The server's side of secure aggregation, one collector for each phase.

Bonawitz et al., CCS 2017, figure 4, server column. A collector verifies and accepts messages until
its caller, who has the clock, closes it, and `close` returns the next phase's collector. Closing
changes nothing, so it can be tried again after more messages when too few had answered. Replaying
the accepted messages in order through fresh collectors restores a round. A collector belongs to
one thread at a time.

The vectors themselves are summed by the caller, word by word modulo 2^64:
`apply_masks(sum, unmasking.masks)` then leaves the sum of the inputs.
"""

from functools import cached_property

import numpy as np

from finsecure_crypto.agreement import KeyPair
from finsecure_crypto.errors import FinSecureError, InvalidArgumentError, ProtocolViolationError
from finsecure_crypto.secagg import bitmaps, statements
from finsecure_crypto.secagg.collector import Collector, History, violation
from finsecure_crypto.secagg.envelope import CIPHERTEXT_BYTES
from finsecure_crypto.secagg.mailboxes import Mailboxes
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
from finsecure_crypto.secagg.unmasking import CollectReveals, Signed, Unmasking
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signing import SIGNATURE_BYTES

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


class CollectShares(RosterCollector[KeyShares, KeyShares]):
    """Phase 2, ShareKeys: collects encrypted shares (the paper's U2)."""

    phase = Phase.SHARE_KEYS

    def __init__(self, round_: ServerRound, history: History) -> None:
        super().__init__(round_, frozenset(round_.roster.clients), history)
        self._commitments: dict[int, bytes] = {}

    @cached_property
    def _dealt(self) -> Mailboxes:
        # Made when needed: whether a phase could be closed is asked more often than it is closed.
        return Mailboxes(self._graph.adjacency, CIPHERTEXT_BYTES)

    def _verify(self, client: str, message: KeyShares) -> KeyShares:
        shares, rest = divmod(len(message.ciphertexts), CIPHERTEXT_BYTES)
        if rest:
            raise violation("SHARE_LENGTH", client, f"a share has not {CIPHERTEXT_BYTES} bytes")
        if shares != self._graph.thresholds.neighbours:
            raise violation("WRONG_SHARE_SET", client, "it did not share with its neighbours")
        statement = statements.share_keys(
            self._round.session, message.self_mask_commitment, message.shares_digest
        )
        self._require_signature(client, message.signature, statement)
        return message

    def _keep(self, client: str, verified: KeyShares) -> None:
        index = self._index(client)
        # In the complete graph a client holds a share of its own secrets, which it never sends.
        self._dealt.send(index, self._holders(index) != index, verified.ciphertexts)
        self._commitments[index] = verified.self_mask_commitment

    def close(self) -> "CollectInputs":
        """Fixes who has shared.

        Raises:
            StateError: `TOO_FEW_SHARERS`; wait for more, or abort.
        """
        sharers = self._closed("TOO_FEW_SHARERS")
        return CollectInputs(
            self._round, self._history, sharers, self._dealt, dict(self._commitments)
        )


class CollectInputs(RosterCollector[MaskedInputHeader, None]):
    """Phase 3, SubmitInput: collects what says that a vector is whole (the paper's U3).

    `check` verifies a header before its vector is received; `accept` means that the vector is
    there and its digest was compared.
    """

    phase = Phase.SUBMIT_MASKED_INPUT

    def __init__(
        self,
        round_: ServerRound,
        history: History,
        sharers: bitmaps.Members,
        dealt: Mailboxes,
        commitments: dict[int, bytes],
    ) -> None:
        super().__init__(round_, round_.ids(sharers), history)
        self._sharers = sharers
        self._dealt = dealt
        self._commitments = commitments

    def delivery(self, client: str) -> ShareDelivery:
        """Returns what a client that has shared is sent: who shared, and their shares for it."""
        index = self._index(client)
        senders = self._sharers[self._holders(index)]
        return ShareDelivery(bitmaps.pack(self._sharers), self._dealt.read(index, senders))

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

    def _keep(self, client: str, verified: None) -> None:
        """Keeps nothing: the vector is the caller's."""

    def close(self) -> "CollectConfirmations":
        """Fixes whose inputs are summed.

        Raises:
            StateError: `TOO_FEW_INPUTS`; wait for more, or abort.
        """
        survivors = self._closed("TOO_FEW_INPUTS", self._sharers)
        masked = Masked(self._sharers, survivors, self._commitments)
        return CollectConfirmations(self._round, self._history, masked)


class CollectConfirmations(RosterCollector[SurvivorConfirmation, bytes]):
    """Phase 4, ConfirmSurvivors: collects signatures over the survivors (the paper's U4).

    Attributes:
        survivors: bitmap over the roster of the clients whose inputs are summed.
    """

    phase = Phase.CONFIRM_SURVIVORS

    def __init__(self, round_: ServerRound, history: History, masked: Masked) -> None:
        super().__init__(round_, round_.ids(masked.survivors), history)
        self.survivors = bitmaps.pack(masked.survivors)
        self._masked = masked
        self._signatures = np.empty(len(round_.peers), f"V{SIGNATURE_BYTES}")

    def _verify(self, client: str, message: SurvivorConfirmation) -> bytes:
        statement = statements.survivors(self._round.session, self.survivors)
        self._require_signature(client, message.signature, statement)
        return message.signature

    def _keep(self, client: str, verified: bytes) -> None:
        self._signatures[self._index(client)] = verified

    def close(self) -> "CollectReveals":
        """Fixes who is asked for shares.

        Raises:
            StateError: `TOO_FEW_CONFIRMATIONS`; wait for more, or abort.
        """
        confirmed = self._round.members(self.accepted)
        self._round.require_holders("TOO_FEW_CONFIRMATIONS", self._masked.sharers, confirmed)
        signed = Signed(confirmed, self._signatures)
        return CollectReveals(self._round, self._history, self._masked, signed)
