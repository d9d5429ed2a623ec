"""The client's side of secure aggregation, one frozen state for each phase.

Bonawitz et al., CCS 2017, figure 4, client columns. Each transition checks the server's message,
uses up its one chance to answer, and returns the next state with the answer. A refused message
leaves the state usable, since nothing has been said; a repeated answer is the first one sent
again, never a new one.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from finsecure_crypto import shamir
from finsecure_crypto.agreement import KeyPair
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.randomness import Randomness, draw_secret
from finsecure_crypto.secagg import derivation, envelope, items, statements
from finsecure_crypto.secagg.envelope import CIPHERTEXT_BYTES, SharePair
from finsecure_crypto.secagg.membership import Identity, Member, refused
from finsecure_crypto.secagg.messages import (
    KeyAdvertisement,
    KeyShares,
    MaskedInputHeader,
    Roster,
    ShareDelivery,
    digest_of_shares,
)
from finsecure_crypto.secagg.once import Once
from finsecure_crypto.secagg.parameters import ClientPolicy, RoundParameters
from finsecure_crypto.secagg.revealing import AwaitConfirmations, AwaitSurvivors, Revealed
from finsecure_crypto.secagg.roster import Session, VerifyPeer, verify_roster
from finsecure_crypto.secret import SecretBytes

__all__ = [
    "AwaitConfirmations",
    "AwaitRoster",
    "AwaitShares",
    "AwaitSurvivors",
    "Identity",
    "MaskedInput",
    "Revealed",
    "advertise_keys",
]

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class MaskedInput:
    """A client's masked vector and what it signed about it.

    Attributes:
        header: goes first.
        words: uint64, shape (layout.words,).
    """

    header: MaskedInputHeader
    words: Words = field(repr=False)


def advertise_keys(
    parameters: RoundParameters,
    identity: Identity,
    randomness: Randomness = os.urandom,
    *,
    policy: ClientPolicy = ClientPolicy(),  # noqa: B008  # frozen, without state
) -> tuple["AwaitRoster", KeyAdvertisement]:
    """Makes the round's two key pairs and signs them (AdvertiseKeys).

    Args:
        parameters: the round, as the server proposes it.
        identity: who answers.
        randomness: where the seeds come from: channel key, then mask key, 32 bytes each.
        policy: what the client insists on; the default wants the active profile.

    Raises:
        PolicyError: `PROFILE_BELOW_POLICY` or `COHORT_BELOW_POLICY`; the server's proposal.
    """
    policy.check_parameters(parameters)
    channel = KeyPair.from_seed(draw_secret(randomness))
    mask_seed = draw_secret(randomness)
    mask_key = KeyPair.from_seed(mask_seed).public
    statement = statements.advertise_keys(
        parameters.context(), identity.client_id, channel.public, mask_key
    )
    advertisement = KeyAdvertisement(
        client=identity.client_id,
        channel_key=channel.public,
        mask_key=mask_key,
        signature=identity.signing_key.sign(*statement),
        certificate=identity.certificate,
    )
    state = AwaitRoster(parameters, identity, policy, advertisement, channel, mask_seed)
    return state, advertisement


@dataclass(frozen=True, eq=False)
class AwaitRoster:
    """Keys are advertised; the roster is to come."""

    parameters: RoundParameters
    identity: Identity
    policy: ClientPolicy
    advertisement: KeyAdvertisement
    _channel: KeyPair = field(repr=False)
    _mask_seed: SecretBytes = field(repr=False)
    _once: Once = field(default_factory=Once, repr=False)

    def share_keys(
        self, roster: Roster, verify_peer: VerifyPeer, randomness: Randomness = os.urandom
    ) -> tuple["AwaitShares", KeyShares]:
        """Checks the roster and shares the two secrets among the holders (ShareKeys).

        Args:
            roster: what the server shows of the round.
            verify_peer: checks a peer's certificate and returns its Ed25519 key.
            randomness: where the self-mask seed, the polynomials and the nonces come from.

        Raises:
            ProtocolViolationError: one of `verify_roster`'s, or `PEER_KEY_INVALID`; the server's.
            PolicyError: `THRESHOLD_BELOW_POLICY`; the server's proposal.
            FinSecureError: whatever `verify_peer` raises.
            StateError: `ALREADY_ANSWERED`; the caller's.
        """
        session, peers = verify_roster(self.parameters, roster, self.advertisement, verify_peer)
        self.policy.check_thresholds(session.graph.thresholds)
        own = roster.index
        secrets = {
            index: self._channel.exchange(peer.channel_key)
            for index, peer in peers.items()
            if index != own
        }
        self._once.spend("the roster")
        self_mask_seed = draw_secret(randomness)
        held = self._split(session, own, self_mask_seed, randomness)
        ciphertexts = b"".join(
            envelope.seal(
                derivation.channel_key(secret, session.digest, own, peer),
                session.digest,
                own,
                peer,
                held[peer],
                randomness,
            )
            for peer, secret in secrets.items()
        )
        commitment = derivation.self_mask_commitment(self_mask_seed, session.digest, own)
        dealt = digest_of_shares(ciphertexts)
        statement = statements.share_keys(session.digest, commitment, dealt)
        state = AwaitShares(
            Member(self.parameters, self.identity, session, own, peers),
            self._mask_seed,
            self_mask_seed,
            {
                peer: derivation.channel_key(secret, session.digest, peer, own)
                for peer, secret in secrets.items()
            },
            {own: held[own]} if own in held else {},
        )
        return state, KeyShares(ciphertexts, commitment, self.identity.signing_key.sign(*statement))

    def _split(
        self, session: Session, own: int, self_mask_seed: SecretBytes, randomness: Randomness
    ) -> dict[int, SharePair]:
        holders = session.graph.holders(own)
        # Zero would be the secret itself, so a holder's point is one more than its index.
        limbs = shamir.split(
            (self._mask_seed, self_mask_seed),
            session.threshold,
            holders + np.uint32(1),
            randomness,
        )
        return {
            holder: SharePair.from_limbs(limbs[:, position])
            for position, holder in enumerate(holders.tolist())
        }


@dataclass(frozen=True, eq=False)
class AwaitShares:
    """Secrets are shared; the shares of the others are to come."""

    _member: Member
    _mask_seed: SecretBytes = field(repr=False)
    _self_mask_seed: SecretBytes = field(repr=False)
    _receiving_keys: Mapping[int, SecretBytes] = field(repr=False)
    _held: Mapping[int, SharePair] = field(repr=False)
    _once: Once = field(default_factory=Once, repr=False)

    def mask_input(
        self, delivery: ShareDelivery, words: Words, *, threads: int = 1
    ) -> tuple[AwaitSurvivors, MaskedInput]:
        """Masks the encoded vector, in place, with all that shared (MaskedInputCollection).

        Args:
            delivery: who shared, and what they sent to this client.
            words: uint64, shape (layout.words,), writeable; holds the masked vector afterwards.
            threads: threads that expand masks.

        Raises:
            ProtocolViolationError: `BITMAP_MALFORMED`, `SELF_LEFT_OUT`, `COHORT_TOO_SMALL`,
                `TOO_FEW_HOLDERS` or `WRONG_SHARE_SET`; the server's.
            InvalidArgumentError: `VECTOR_SHAPE`; the caller's.
            StateError: `ALREADY_ANSWERED`; the caller's. A second vector under the same masks
                would show the difference of the two.
        """
        member = self._member
        sharers = member.members(delivery.sharers)
        holders = member.session.graph.holders(member.index)
        member.require_holders(int(np.count_nonzero(sharers[holders])))
        senders = [index for index in self._receiving_keys if sharers[index]]
        if len(delivery.ciphertexts) != CIPHERTEXT_BYTES * len(senders):
            raise refused("WRONG_SHARE_SET", "the shares are not those of its neighbours")
        if (
            words.shape != (member.parameters.layout.words,)
            or words.dtype != np.uint64
            or not (words.flags.c_contiguous and words.flags.writeable)
        ):
            raise InvalidArgumentError(
                "VECTOR_SHAPE",
                f"the vector has {member.parameters.layout.words} uint64 words, contiguous and "
                "writeable",
            )
        keys = self._mask_keys(senders)
        self._once.spend("the delivery of shares")
        apply_masks(words, keys, threads=threads)
        digest = hashlib.sha256(words.astype("<u8", copy=False).data).digest()
        statement = statements.masked_input(member.session.digest, words.nbytes, digest)
        header = MaskedInputHeader(
            words.nbytes, digest, member.identity.signing_key.sign(*statement)
        )
        ciphertexts = dict(
            zip(senders, items.split(delivery.ciphertexts, CIPHERTEXT_BYTES), strict=True)
        )
        state = AwaitSurvivors(member, sharers, ciphertexts, self._receiving_keys, self._held)
        return state, MaskedInput(header, words)

    def _mask_keys(self, senders: list[int]) -> list[tuple[SecretBytes, int]]:
        session, own = self._member.session.digest, self._member.index
        pair = KeyPair.from_seed(self._mask_seed)
        keys = [(derivation.self_mask_key(self._self_mask_seed, session, own), 1)]
        for peer in senders:
            secret = pair.exchange(self._member.peers[peer].mask_key)
            key = derivation.pairwise_mask_key(secret, session, own, peer)
            keys.append((key, derivation.pairwise_sign(own, peer)))
        return keys
