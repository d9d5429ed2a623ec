"""A thousand clients at the cost of one: a production client among peers that save themselves work.

The server gets from a peer exactly what a client would send it: real keys, Shamir shares,
commitments and signatures, verified and used by the production server. What the peers save is
what the server cannot see: only the shares for the production client are really encrypted, and
the pairwise masks of two survivors, which cancel in the sum, are not made. The masks that do not
cancel are all added by one peer, the carrier. The sum that the server ends with is compared with
the plain sum, word for word.
"""

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from finsecure_crypto import shamir
from finsecure_crypto.agreement import KeyPair
from finsecure_crypto.encoding import rounding_generator
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.randomness import Randomness
from finsecure_crypto.secagg import bitmaps, derivation, envelope, items, statements
from finsecure_crypto.secagg import client as client_side
from finsecure_crypto.secagg.messages import (
    Confirmations,
    KeyAdvertisement,
    KeyShares,
    MaskedInputHeader,
    RevealedShares,
    Roster,
    ShareDelivery,
    SurvivorConfirmation,
    digest_of_shares,
)
from finsecure_crypto.secagg.parameters import ClientPolicy, Profile, RoundParameters
from finsecure_crypto.secagg.roster import SealedRoster
from finsecure_crypto.secret import SecretBytes
from numpy.typing import NDArray

from benchmarks.identities import Identities

Words = NDArray[np.uint64]

_POLICY = ClientPolicy(minimum_cohort=2, minimum_threshold=2, minimum_profile=Profile.SEMI_HONEST)
_PLAIN_VECTORS = 8  # different inputs; the peers take turns


@dataclass
class Stopwatch:
    """CPU seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    def time(self, phase: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Runs some work and adds its CPU time, of all threads, to the phase."""
        start = time.process_time()
        result = work(*arguments)
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.process_time() - start
        return result


class Cohort:
    """All clients of one round, which can be played again with other drop-outs.

    Attributes:
        parameters: the round.
        identities: who the clients are.
        own: roster index of the production client.
        advertisements: by roster index.
    """

    def __init__(self, parameters: RoundParameters, identities: Identities) -> None:
        self.parameters, self.identities = parameters, identities
        size = len(identities.clients)
        self.own = size // 2
        self.client = ProductionClient(parameters, identities, self.own)
        self._channels = [KeyPair.generate() for _ in range(size)]
        self._mask_seeds = [SecretBytes(os.urandom(32)) for _ in range(size)]
        self._mask_keys = [KeyPair.from_seed(seed) for seed in self._mask_seeds]
        self._self_seeds = [SecretBytes(os.urandom(32)) for _ in range(size)]
        self.advertisements = [self._advertise(index) for index in range(size)]
        self._roster = SealedRoster(parameters, self.advertisements)
        self._session = self._roster.session
        self._shares = [self._split(index) for index in range(size)]
        self.dealt: list[KeyShares] = [self._deal(index) for index in range(size)]
        self.plain = [self._encode() for _ in range(_PLAIN_VECTORS)]

    def _sign(self, index: int, statement: statements.Statement) -> bytes:
        return self.identities.clients[index].signing_key.sign(*statement)

    def _advertise(self, index: int) -> KeyAdvertisement:
        if index == self.own:
            return self.client.advertisement
        identity = self.identities.clients[index]
        keys = (self._channels[index].public, self._mask_keys[index].public)
        statement = statements.advertise_keys(self.parameters.context(), identity.client_id, *keys)
        return KeyAdvertisement(
            identity.client_id, *keys, self._sign(index, statement), identity.certificate
        )

    def _split(self, index: int) -> shamir.Shares:
        """Shares of a peer's two secrets: mask key, then self mask; shape (2, holders, 9)."""
        points = self._session.graph.holders(index) + np.uint32(1)
        secrets = (self._mask_seeds[index], self._self_seeds[index])
        return shamir.split(secrets, self._session.threshold, points)

    def _deal(self, index: int) -> KeyShares:
        graph, session = self._session.graph, self._session.digest
        if index == self.own:
            roster = self._roster.for_client(self.identities.clients[index].client_id)
            return self.client.share_keys(roster)
        neighbours = graph.neighbours(index).tolist()
        noise = os.urandom(envelope.CIPHERTEXT_BYTES * len(neighbours))
        if self.own in neighbours:
            position = graph.holders(index).tolist().index(self.own)
            sealed = envelope.seal(
                self._channel_key(index, index, self.own),
                session,
                index,
                self.own,
                envelope.SharePair.from_limbs(self._shares[index][:, position]),
                os.urandom,
            )
            start = envelope.CIPHERTEXT_BYTES * neighbours.index(self.own)
            noise = noise[:start] + sealed + noise[start + envelope.CIPHERTEXT_BYTES :]
        commitment = derivation.self_mask_commitment(self._self_seeds[index], session, index)
        statement = statements.share_keys(session, commitment, digest_of_shares(noise))
        return KeyShares(noise, commitment, self._sign(index, statement))

    def _channel_key(self, peer: int, sender: int, receiver: int) -> SecretBytes:
        secret = self._channels[peer].exchange(self.client.advertisement.channel_key)
        return derivation.channel_key(secret, self._session.digest, sender, receiver)

    def _encode(self) -> Words:
        rng = np.random.default_rng()
        values = {
            section.name: rng.uniform(-1, 1, section.length).astype(np.float32)
            for section in self.parameters.layout.sections
        }
        return self.parameters.layout.encode(values, rounding_generator())

    def play(self, dropped: frozenset[int]) -> "Play":
        """Prepares one round in which these clients, the production client excepted, drop out.

        They share keys and then say nothing more, which costs the server most.
        """
        assert self.own not in dropped
        return Play(self, dropped)


class ProductionClient:
    """One client that does everything a client does, with its CPU time by phase."""

    def __init__(self, parameters: RoundParameters, identities: Identities, index: int) -> None:
        self._identities, self._identity = identities, identities.clients[index]
        self._parameters = parameters
        self._seed = os.urandom(32)
        self.restart()

    def restart(self) -> None:
        """Starts the same round anew, with the same randomness and so the same messages."""
        self.stopwatch = Stopwatch()
        self._randomness = _replayed(self._seed)
        self._state: Any
        self.advertisement: KeyAdvertisement
        self._state, self.advertisement = self.stopwatch.time(
            "advertise keys",
            lambda: client_side.advertise_keys(
                self._parameters, self._identity, self._randomness, policy=_POLICY
            ),
        )

    def share_keys(self, roster: Roster) -> KeyShares:
        """Answers the roster."""
        answer: KeyShares = self._step(
            "share keys",
            self._state.share_keys,
            roster,
            self._identities.verify_peer,
            self._randomness,
        )
        return answer

    def mask_input(self, delivery: ShareDelivery, words: Words) -> client_side.MaskedInput:
        """Masks the words, in place."""
        answer: client_side.MaskedInput = self._step(
            "mask input", self._state.mask_input, delivery, words
        )
        return answer

    def confirm_survivors(self, bitmap: bytes) -> SurvivorConfirmation:
        """Confirms the survivors."""
        answer: SurvivorConfirmation = self._step(
            "confirm survivors", self._state.confirm_survivors, bitmap
        )
        return answer

    def reveal_shares(self, confirmations: Confirmations) -> RevealedShares:
        """Reveals its shares."""
        answer: RevealedShares = self._step(
            "reveal shares", self._state.reveal_shares, confirmations
        )
        return answer

    def _step(self, phase: str, work: Callable[..., Any], *arguments: Any) -> Any:
        self._state, answer = self.stopwatch.time(phase, work, *arguments)
        return answer


class Play:
    """One round of a cohort: what each client sends, as the server asks for it."""

    def __init__(self, cohort: Cohort, dropped: frozenset[int]) -> None:
        self._cohort, self._dropped = cohort, dropped
        self._session = cohort._session
        self.survivors = [i for i in range(len(cohort.advertisements)) if i not in dropped]
        self._carrier = next(i for i in self.survivors if i != cohort.own)
        cohort.client.restart()
        self._own_dealt = cohort.client.share_keys(
            cohort._roster.for_client(cohort.identities.clients[cohort.own].client_id)
        )
        # Played with the same randomness, so this is the message that the server knows.
        assert self._own_dealt.digest() == cohort.dealt[cohort.own].digest()

    def inputs(self, delivery: ShareDelivery) -> Iterator[tuple[int, MaskedInputHeader, Words]]:
        """Yields the masked input of each survivor; peers' vectors are not the receiver's to keep.

        Args:
            delivery: what the server sends the production client.
        """
        cohort = self._cohort
        ready = [(words, hashlib.sha256(words.data).digest()) for words in cohort.plain]
        for index in self.survivors:
            words, digest = ready[index % _PLAIN_VECTORS]
            if index == cohort.own:
                masked = cohort.client.mask_input(delivery, words.copy())
                yield index, masked.header, masked.words
                continue
            if index == self._carrier:
                words = words.copy()
                apply_masks(words, self._masks_that_stay())
                digest = hashlib.sha256(words.data).digest()
            statement = statements.masked_input(self._session.digest, words.nbytes, digest)
            signature = cohort._sign(index, statement)
            yield index, MaskedInputHeader(words.nbytes, digest, signature), words

    def plain_sum(self) -> Words:
        """Returns what the server has to end with."""
        total = np.zeros_like(self._cohort.plain[0])
        for index in self.survivors:
            total += self._cohort.plain[index % _PLAIN_VECTORS]
        return total

    def confirm(self, bitmap: bytes) -> Iterator[tuple[int, SurvivorConfirmation]]:
        """Yields each survivor's confirmation."""
        statement = statements.survivors(self._session.digest, bitmap)
        for index in self.survivors:
            if index == self._cohort.own:
                yield index, self._cohort.client.confirm_survivors(bitmap)
            else:
                yield index, SurvivorConfirmation(self._cohort._sign(index, statement))

    def reveal(self, confirmations: Confirmations) -> Iterator[tuple[int, RevealedShares]]:
        """Yields each survivor's shares.

        Args:
            confirmations: what the server sends the production client.
        """
        own_shares = self._shares_of_own()
        for index in self.survivors:
            if index == self._cohort.own:
                yield index, self._cohort.client.reveal_shares(confirmations)
            else:
                yield index, self._revealed_by(index, own_shares)

    def _revealed_by(
        self, holder: int, own_shares: dict[int, tuple[bytes, bytes]]
    ) -> RevealedShares:
        cohort, graph = self._cohort, self._session.graph
        shares: tuple[list[bytes], list[bytes]] = ([], [])  # mask key, self mask
        for owner in graph.holders(holder).tolist():
            kind = 0 if owner in self._dropped else 1
            if owner == cohort.own:
                shares[kind].append(own_shares[holder][kind])
                continue
            holders = graph.holders(owner)
            position = int(np.searchsorted(holders, holder))
            shares[kind].append(cohort._shares[owner][kind, position].astype("<u4").tobytes())
        nobody = bitmaps.pack(np.zeros(graph.holders(holder).size, np.bool_))
        return RevealedShares(b"".join(shares[1]), b"".join(shares[0]), nobody)

    def _shares_of_own(self) -> dict[int, tuple[bytes, bytes]]:
        """Opens what the production client sent its holders."""
        cohort, opened = self._cohort, {}
        holders = self._session.graph.neighbours(cohort.own).tolist()
        sealed = items.split(self._own_dealt.ciphertexts, envelope.CIPHERTEXT_BYTES)
        for holder, ciphertext in zip(holders, sealed, strict=True):
            key = cohort._channel_key(holder, cohort.own, holder)
            pair = envelope.open_(key, self._session.digest, cohort.own, holder, ciphertext)
            assert pair is not None
            opened[holder] = (pair.mask_key.expose(), pair.self_mask.expose())
        return opened

    def _masks_that_stay(self) -> list[tuple[SecretBytes, int]]:
        """Self masks of the peers, and their pairwise masks with whoever really masks or is gone.

        The production client adds all of its own masks itself.
        """
        cohort, session = self._cohort, self._session.digest
        really = self._dropped | {cohort.own}
        masks = []
        for index in self.survivors:
            if index == cohort.own:
                continue
            key = derivation.self_mask_key(cohort._self_seeds[index], session, index)
            masks.append((key, 1))
            for peer in self._session.graph.neighbours(index).tolist():
                if peer in really:
                    secret = cohort._mask_keys[index].exchange(cohort.advertisements[peer].mask_key)
                    key = derivation.pairwise_mask_key(secret, session, index, peer)
                    masks.append((key, derivation.pairwise_sign(index, peer)))
        return masks


def _replayed(seed: bytes) -> Randomness:
    """Random bytes that come again: SHAKE-256 of seed and counter."""
    counter = itertools.count()
    return lambda length: hashlib.shake_256(seed + next(counter).to_bytes(8, "big")).digest(length)
