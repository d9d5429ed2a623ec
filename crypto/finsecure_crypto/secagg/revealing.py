"""The client's last two steps: it confirms the survivors, and reveals what unmasks their sum.

Bonawitz et al., CCS 2017, figure 4, ConsistencyCheck and Unmasking, client columns. As in `client`,
each state answers once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from finsecure_crypto import signing
from finsecure_crypto.secagg import bitmaps, envelope, items, statements
from finsecure_crypto.secagg.envelope import SharePair
from finsecure_crypto.secagg.membership import Member, refused
from finsecure_crypto.secagg.messages import Confirmations, RevealedShares, SurvivorConfirmation
from finsecure_crypto.secagg.once import Once
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signing import SIGNATURE_BYTES


@dataclass(frozen=True, eq=False)
class AwaitSurvivors:
    """The masked input is made; the survivors are to come."""

    _member: Member
    _sharers: bitmaps.Members = field(repr=False)
    _ciphertexts: Mapping[int, bytes] = field(repr=False)
    _receiving_keys: Mapping[int, SecretBytes] = field(repr=False)
    _held: Mapping[int, SharePair] = field(repr=False)
    _once: Once = field(default_factory=Once, repr=False)

    def confirm_survivors(self, bitmap: bytes) -> tuple["AwaitConfirmations", SurvivorConfirmation]:
        """Signs the set of clients whose inputs are to be summed (ConsistencyCheck).

        Raises:
            ProtocolViolationError: `BITMAP_MALFORMED`, `SET_NOT_SHRINKING`, `SELF_LEFT_OUT` or
                `COHORT_TOO_SMALL`; the server's.
            StateError: `ALREADY_ANSWERED`; the caller's. A client never signs two sets.
        """
        member = self._member
        survivors = member.members(bitmap, within=self._sharers)
        self._once.spend("the list of survivors")
        statement = statements.survivors(member.session.digest, bitmap)
        state = AwaitConfirmations(
            member,
            survivors,
            bitmap,
            self._ciphertexts,
            self._receiving_keys,
            self._held,
        )
        return state, SurvivorConfirmation(member.identity.signing_key.sign(*statement))


@dataclass(frozen=True, eq=False)
class AwaitConfirmations:
    """The survivors are confirmed; the confirmations of the others are to come."""

    _member: Member
    _survivors: bitmaps.Members = field(repr=False)
    _bitmap: bytes
    _ciphertexts: Mapping[int, bytes] = field(repr=False)
    _receiving_keys: Mapping[int, SecretBytes] = field(repr=False)
    _held: Mapping[int, SharePair] = field(repr=False)
    _once: Once = field(default_factory=Once, repr=False)

    def reveal_shares(self, confirmations: Confirmations) -> tuple["Revealed", RevealedShares]:
        """Reveals, once, one kind of share for each client that shared (Unmasking).

        Which kind follows from the survivors that this client itself has signed, never from what
        it is asked: the self mask of a survivor, the mask key of a drop-out.

        Raises:
            ProtocolViolationError: `BITMAP_MALFORMED`, `WRONG_SIGNERS`, `SURVIVOR_SIGNATURE` or
                `TOO_FEW_HOLDERS`; the server's, or a peer's that was shown other survivors.
            StateError: `ALREADY_ANSWERED`; the caller's.
        """
        self._check(confirmations)
        self._once.spend("the list of confirmations")
        survived, dropped, unreadable = [], [], []
        for index in self._member.session.graph.holders(self._member.index).tolist():
            pair = self._open(index)
            unreadable.append(pair is None and index in self._ciphertexts)
            if pair is not None and self._survivors[index]:
                survived.append(pair.self_mask.expose())
            elif pair is not None:
                dropped.append(pair.mask_key.expose())
        return Revealed(), RevealedShares(
            self_mask_shares=b"".join(survived),
            mask_key_shares=b"".join(dropped),
            unreadable=bitmaps.pack(np.array(unreadable)),
        )

    def _open(self, dealer: int) -> SharePair | None:
        """Returns a dealer's shares, or None where it dealt none or they are not readable."""
        if dealer not in self._ciphertexts:
            return self._held.get(dealer)
        return envelope.open_(
            self._receiving_keys[dealer],
            self._member.session.digest,
            dealer,
            self._member.index,
            self._ciphertexts[dealer],
        )

    def _check(self, confirmations: Confirmations) -> None:
        member = self._member
        statement = statements.survivors(member.session.digest, self._bitmap)
        holders = member.session.graph.holders(member.index)
        signers = holders[bitmaps.unpack(confirmations.signers, holders.size)]
        if len(confirmations.signatures) != SIGNATURE_BYTES * signers.size:
            raise refused("WRONG_SIGNERS", "the signatures are not those of the signers")
        if not self._survivors[signers].all():
            raise refused("WRONG_SIGNERS", "a signer is no surviving holder of this client")
        signatures = items.split(confirmations.signatures, SIGNATURE_BYTES)
        for signer, signature in zip(signers.tolist(), signatures, strict=True):
            peer = member.peers[signer]
            if not signing.verify(peer.signing_key, signature, *statement):
                raise refused(
                    "SURVIVOR_SIGNATURE",
                    f"{peer.client} has not signed the survivors that this client was shown",
                )
        member.require_holders(signers.size)


@dataclass(frozen=True)
class Revealed:
    """The client's part is done; nothing of its secrets is left."""
