"""The last phase of the server: shares become secrets, and secrets the masks to remove.

Bonawitz et al., CCS 2017, figure 4, Unmasking, server's side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from finsecure_crypto import shamir
from finsecure_crypto.agreement import KeyPair
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.masking import MaskKey
from finsecure_crypto.secagg import derivation
from finsecure_crypto.secagg.blame import Blame
from finsecure_crypto.secagg.collector import History, violation
from finsecure_crypto.secagg.messages import Confirmations, RevealedShares
from finsecure_crypto.secagg.phases import Phase
from finsecure_crypto.secagg.reconstruction import RevealedBy, SecretMismatchError, rebuild
from finsecure_crypto.secagg.roster_collector import Masked, RosterCollector, ServerRound
from finsecure_crypto.secret import SecretBytes


class CollectReveals(RosterCollector[RevealedShares]):
    """Phase 5, RevealShares: collects shares and rebuilds the secrets (the paper's U5)."""

    phase = Phase.REVEAL_SHARES

    def __init__(
        self,
        round_: ServerRound,
        history: History,
        masked: Masked,
        signatures: dict[int, bytes],
    ) -> None:
        expected = frozenset(round_.roster.clients[index] for index in signatures)
        super().__init__(round_, expected, history)
        self._masked = masked
        self._signatures = signatures
        self._revealed: list[RevealedBy] = []
        self._counts = np.zeros(len(round_.peers), np.int64)

    def confirmations(self, client: str) -> Confirmations:
        """Returns what a client that has confirmed is sent: its fellow holders' signatures."""
        holders = self._graph.holders(self._index(client)).tolist()
        return Confirmations(
            {index: self._signatures[index] for index in holders if index in self._signatures}
        )

    @property
    def ready(self) -> bool:
        """Whether every secret has t shares, so that `close` succeeds unless some are wrong."""
        return bool(
            self._counts[self._masked.sharers].min() >= self._round.roster.session.threshold
        )

    def _verify(self, client: str, message: RevealedShares) -> None:
        index = self._index(client)
        holders = self._graph.holders(index)
        dealers = holders[self._masked.sharers[holders]]
        survived = self._masked.survivors[dealers]
        unreadable = message.unreadable
        readable = np.isin(dealers, list(unreadable), invert=True)
        if (
            not unreadable <= {*dealers.tolist()} - {index}
            or list(message.self_mask_shares) != dealers[survived & readable].tolist()
            or list(message.mask_key_shares) != dealers[~survived & readable].tolist()
        ):
            raise violation("WRONG_SHARE_SET", client, "it revealed other shares than it holds")
        try:
            shamir.shares_from_bytes(
                [*message.self_mask_shares.values(), *message.mask_key_shares.values()]
            )
        except IntegrityError as error:
            raise violation("SHARE_MALFORMED", client, error.message) from None

    def _keep(self, client: str, message: RevealedShares) -> None:
        revealed = {**message.self_mask_shares, **message.mask_key_shares}
        owners = np.fromiter(revealed, np.uint32, len(revealed))
        order = np.argsort(owners)
        owners, shares = owners[order], shamir.shares_from_bytes([*revealed.values()])[order]
        self._revealed.append(RevealedBy(self._index(client), owners, shares))
        self._counts[owners] += 1

    def close(self) -> "Unmasking":
        """Rebuilds the secrets and lists the masks that are left in the sum.

        Raises:
            StateError: `TOO_FEW_REVEALS`; wait for more, or abort.
            IntegrityError: `SHARES_NOT_DECODABLE` when too many shares of a secret are wrong; wait
                for more, or abort. `SECRET_MISMATCH` when a client shared another secret than it
                committed to; `culprit` names it; abort.
        """
        masked = self._masked
        owners = np.flatnonzero(masked.sharers).tolist()
        threshold = self._round.roster.session.threshold
        try:
            rebuilt = rebuild(self._revealed, owners, threshold, self._is_secret_of)
        except SecretMismatchError as error:
            error.culprit = self._round.roster.clients[error.owner]
            raise
        clients = self._round.roster.clients
        survivors = np.flatnonzero(masked.survivors).tolist()
        return Unmasking(
            masks=tuple(self._masks(rebuilt.secrets)),
            contributors=len(survivors),
            survivors=tuple(clients[index] for index in survivors),
            blamed=tuple(
                Blame(clients[holder], "SHARE_WRONG", clients[owner])
                for holder, owner in rebuilt.wrong
            ),
        )

    def _is_secret_of(self, owner: int, secret: SecretBytes) -> bool:
        if self._masked.survivors[owner]:
            commitment = derivation.self_mask_commitment(secret, self._round.session, owner)
            return commitment == self._masked.commitments[owner]
        return KeyPair.from_seed(secret).public == self._round.peers[owner].mask_key

    def _masks(self, secrets: dict[int, SecretBytes]) -> list[tuple[MaskKey, int]]:
        session, survivors = self._round.session, self._masked.survivors
        masks: list[tuple[MaskKey, int]] = []
        for owner, secret in secrets.items():
            if survivors[owner]:
                masks.append((derivation.self_mask_key(secret, session, owner), -1))
                continue
            pair = KeyPair.from_seed(secret)
            neighbours = self._graph.neighbours(owner)
            for peer in neighbours[survivors[neighbours]].tolist():
                shared = pair.exchange(self._round.peers[peer].mask_key)
                key = derivation.pairwise_mask_key(shared, session, owner, peer)
                # The survivor added the mask with its own sign, so the opposite one removes it.
                masks.append((key, -derivation.pairwise_sign(peer, owner)))
        return masks


@dataclass(frozen=True)
class Unmasking:
    """What turns the sum of masked vectors into the sum of the inputs.

    Attributes:
        masks: keys of the masks, each with the sign that removes it; for `apply_masks`.
        contributors: inputs in the sum.
        survivors: ids of the clients whose inputs are in the sum, in roster order.
        blamed: clients that revealed wrong shares, which were corrected.
    """

    masks: Sequence[tuple[MaskKey, int]] = field(repr=False)
    contributors: int
    survivors: tuple[str, ...]
    blamed: tuple[Blame, ...]
