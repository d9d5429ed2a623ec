"""The last phase of the server: shares become secrets, and secrets the masks to remove.

Bonawitz et al., CCS 2017, figure 4, Unmasking, server's side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import shamir
from finsecure_crypto.agreement import KeyPair
from finsecure_crypto.errors import IntegrityError, ProtocolViolationError
from finsecure_crypto.masking import MaskKey
from finsecure_crypto.secagg import bitmaps, derivation
from finsecure_crypto.secagg.blame import Blame
from finsecure_crypto.secagg.collector import History, violation
from finsecure_crypto.secagg.mailboxes import Mailboxes
from finsecure_crypto.secagg.messages import Confirmations, RevealedShares
from finsecure_crypto.secagg.phases import Phase
from finsecure_crypto.secagg.reconstruction import SecretMismatchError, SharePool, rebuild
from finsecure_crypto.secagg.roster_collector import Masked, RosterCollector, ServerRound
from finsecure_crypto.secret import SecretBytes


@dataclass(frozen=True, eq=False)
class Signed:
    """Who has confirmed the survivors (the paper's U4), and how.

    Attributes:
        members: who, over the roster.
        signatures: opaque items of 64 bytes, shape (n,); only members' mean anything.
    """

    members: bitmaps.Members
    signatures: NDArray[np.void] = field(repr=False)


@dataclass(frozen=True, eq=False)
class _Revealed:
    """What one holder revealed: items of 36 bytes, and for which of its holders each kind is."""

    self_masks: bitmaps.Members
    mask_keys: bitmaps.Members
    message: RevealedShares


class CollectReveals(RosterCollector[RevealedShares, _Revealed]):
    """Phase 5, RevealShares: collects shares and rebuilds the secrets (the paper's U5)."""

    phase = Phase.REVEAL_SHARES

    def __init__(
        self, round_: ServerRound, history: History, masked: Masked, signed: Signed
    ) -> None:
        super().__init__(round_, round_.ids(signed.members), history)
        self._masked = masked
        self._signed = signed
        self._counts = np.zeros(len(round_.peers), np.int64)

    @cached_property
    def _shares(self) -> Mailboxes:
        # Made when needed, as those of ShareKeys.
        return Mailboxes(self._graph.adjacency, shamir.SHARE_BYTES)

    def confirmations(self, client: str) -> Confirmations:
        """Returns what a client that has confirmed is sent: its fellow holders' signatures."""
        holders = self._holders(self._index(client))
        signers = self._signed.members[holders]
        signatures = self._signed.signatures[holders[signers]]
        return Confirmations(bitmaps.pack(signers), signatures.tobytes())

    @property
    def ready(self) -> bool:
        """Whether every secret has t shares, so that `close` succeeds unless some are wrong."""
        return bool(
            self._counts[self._masked.sharers].min() >= self._round.roster.session.threshold
        )

    def _verify(self, client: str, message: RevealedShares) -> _Revealed:
        index = self._index(client)
        owners = self._holders(index)
        try:
            unreadable = bitmaps.unpack(message.unreadable, owners.size)
        except ProtocolViolationError as error:
            raise violation(error.code, client, error.message) from None
        shared = self._masked.sharers[owners]
        if np.any(unreadable & (~shared | (owners == index))):
            raise violation("WRONG_SHARE_SET", client, "it could not have read the shares it names")
        readable, survived = shared & ~unreadable, self._masked.survivors[owners]
        revealed = _Revealed(readable & survived, readable & ~survived, message)
        for items, chosen in (
            (message.self_mask_shares, revealed.self_masks),
            (message.mask_key_shares, revealed.mask_keys),
        ):
            try:
                shares = shamir.shares_from_bytes(items)
            except IntegrityError as error:
                raise violation("SHARE_MALFORMED", client, error.message) from None
            if len(shares) != np.count_nonzero(chosen):
                raise violation("WRONG_SHARE_SET", client, "it revealed other shares than it holds")
        return revealed

    def _keep(self, client: str, verified: _Revealed) -> None:
        index, message = self._index(client), verified.message
        self._shares.send(index, verified.self_masks, message.self_mask_shares)
        self._shares.send(index, verified.mask_keys, message.mask_key_shares)
        self._counts[self._holders(index)] += verified.self_masks | verified.mask_keys

    def close(self) -> "Unmasking":
        """Rebuilds the secrets and lists the masks that are left in the sum.

        Raises:
            StateError: `TOO_FEW_REVEALS`; wait for more, or abort.
            IntegrityError: `SHARES_NOT_DECODABLE` when too many shares of a secret are wrong; wait
                for more, or abort. `SECRET_MISMATCH` when a client shared another secret than it
                committed to; `culprit` names it; abort.
        """
        masked = self._masked
        owners = np.flatnonzero(masked.sharers)
        threshold = self._round.roster.session.threshold
        try:
            rebuilt = rebuild(self._pool(), owners, threshold, self._is_secret_of)
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

    def _pool(self) -> SharePool:
        return SharePool(self._graph.adjacency.holders, self._shares.filled, self._shares.words())

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
            neighbours = self._holders(owner)  # itself among them, but it has not survived
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
