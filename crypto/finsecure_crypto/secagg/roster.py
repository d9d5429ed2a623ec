"""The roster: who is in the round with which keys, and one digest that all views must share.

An RFC 6962 Merkle tree over the advertisements in the order of the client ids. In the complete
graph a client gets all entries and recomputes the root; in the sparse graph it gets its neighbours
with inclusion proofs and works out for itself which these must be. Size and root go into the
session digest, so that clients with different rosters add up to noise.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from finsecure_crypto import signing, transcript
from finsecure_crypto.errors import ProtocolViolationError
from finsecure_crypto.merkle import HASH_BYTES, MerkleTree, tree_hash, verify_inclusion
from finsecure_crypto.secagg import statements
from finsecure_crypto.secagg.graph import Graph
from finsecure_crypto.secagg.messages import KeyAdvertisement, Roster, RosterEntry
from finsecure_crypto.secagg.parameters import RoundParameters

VerifyPeer = Callable[[str, bytes], bytes]
"""Checks a signing certificate (DER) against the trust anchors, the clock, the revocation list
and the client id, and returns its Ed25519 public key; raises where anything is wrong."""


@dataclass(frozen=True, eq=False)
class Session:
    """What a roster determines.

    Attributes:
        digest: 32 bytes; the salt of every key and the start of every signature from here on.
        graph: the masking graph, with k and t.
    """

    digest: bytes
    graph: Graph

    @classmethod
    def open(cls, parameters: RoundParameters, size: int, root: bytes) -> "Session":
        """Derives the session of a roster.

        Raises:
            InvalidArgumentError: `ROSTER_SIZE`, as `RoundParameters.thresholds`.
        """
        context = parameters.context()
        roster = transcript.digest("roster", context, size, root)
        graph = Graph.build(parameters.thresholds(size), roster)
        return cls(transcript.digest("session", context, roster), graph)

    @property
    def size(self) -> int:
        """Clients in the roster."""
        return self.graph.thresholds.roster_size

    @property
    def threshold(self) -> int:
        """Shares that rebuild a secret, the papers' t."""
        return self.graph.thresholds.threshold


@dataclass(frozen=True)
class Peer:
    """A client of the roster whose advertisement has been verified.

    Attributes:
        client: its id.
        channel_key: its X25519 public key of the share channels.
        mask_key: its X25519 public key of the masks.
        signing_key: its Ed25519 public key.
    """

    client: str
    channel_key: bytes
    mask_key: bytes
    signing_key: bytes


def verify_advertisement(
    context: bytes, advertisement: KeyAdvertisement, verify_peer: VerifyPeer
) -> Peer:
    """Checks the certificate and the signature of an advertisement (AdvertiseKeys).

    Raises:
        ProtocolViolationError: `ADVERTISEMENT_SIGNATURE`; of whoever sent it.
        FinSecureError: whatever `verify_peer` raises.
    """
    public = verify_peer(advertisement.client, advertisement.certificate)
    statement = statements.advertise_keys(
        context, advertisement.client, advertisement.channel_key, advertisement.mask_key
    )
    if not signing.verify(public, advertisement.signature, *statement):
        raise ProtocolViolationError(
            "ADVERTISEMENT_SIGNATURE",
            f"the keys of {advertisement.client} are not signed by it for this round attempt",
        )
    return Peer(advertisement.client, advertisement.channel_key, advertisement.mask_key, public)


class SealedRoster:
    """The server's roster once AdvertiseKeys has closed (the papers' U1).

    Attributes:
        session: what the roster determines.
        clients: ids by roster index.
    """

    def __init__(
        self, parameters: RoundParameters, advertisements: Iterable[KeyAdvertisement]
    ) -> None:
        self._advertisements = sorted(advertisements, key=lambda each: each.client)
        context = parameters.context()
        self._tree = MerkleTree([_leaf(context, each) for each in self._advertisements])
        self.session = Session.open(parameters, len(self._advertisements), self._tree.root)
        self.clients = tuple(each.client for each in self._advertisements)
        self._index = {client: index for index, client in enumerate(self.clients)}

    def index_of(self, client: str) -> int:
        """Returns the roster index of a client that is in the roster."""
        return self._index[client]

    def for_client(self, client: str) -> Roster:
        """Returns what one client of the roster is sent: itself, its neighbours, and proofs."""
        index = self._index[client]
        graph = self.session.graph
        if graph.thresholds.complete:
            entries = self._entries
        else:
            shown = sorted([index, *graph.adjacency.holders[index].tolist()])
            entries = tuple(self._entries[i] for i in shown)
        return Roster(len(self.clients), self._tree.root, index, entries)

    @cached_property
    def _entries(self) -> tuple[RosterEntry, ...]:
        """All entries, made once: each is shown to many clients."""
        complete = self.session.graph.thresholds.complete
        return tuple(
            RosterEntry(i, each, () if complete else tuple(self._tree.inclusion_proof(i)))
            for i, each in enumerate(self._advertisements)
        )


def verify_roster(
    parameters: RoundParameters, roster: Roster, own: KeyAdvertisement, verify_peer: VerifyPeer
) -> tuple[Session, dict[int, Peer]]:
    """Checks everything that a client can check of a roster (ShareKeys, client's side).

    Returns:
        The session, and the receiver with its neighbours by roster index.

    Raises:
        ProtocolViolationError: `ROSTER_SIZE`, `ROSTER_NEIGHBOURS`, `ROSTER_OWN_KEYS`,
            `ROSTER_ORDER`, `KEYS_NOT_DISTINCT`, `ROSTER_ROOT` or `ADVERTISEMENT_SIGNATURE`; the
            server's.
        FinSecureError: whatever `verify_peer` raises for a neighbour's certificate.
    """
    if not parameters.minimum_cohort <= roster.size <= parameters.layout.cohort:
        raise _refused("ROSTER_SIZE", f"it has {roster.size} clients, outside the round's bounds")
    if not 0 <= roster.index < roster.size or len(roster.root) != HASH_BYTES:
        raise _refused("ROSTER_SIZE", "it gives an index outside the roster or a malformed root")
    session = Session.open(parameters, roster.size, roster.root)
    neighbours = session.graph.neighbours(roster.index).tolist()
    if [entry.index for entry in roster.entries] != sorted([roster.index, *neighbours]):
        raise _refused("ROSTER_NEIGHBOURS", "it does not show exactly this client's neighbours")
    _check_entries(roster, own)
    context = parameters.context()
    _check_root(context, roster, complete=session.graph.thresholds.complete)
    return session, {
        entry.index: verify_advertisement(context, entry.advertisement, verify_peer)
        for entry in roster.entries
    }


def _check_entries(roster: Roster, own: KeyAdvertisement) -> None:
    shown = [entry.advertisement for entry in roster.entries]
    if next(e.advertisement for e in roster.entries if e.index == roster.index) != own:
        raise _refused("ROSTER_OWN_KEYS", "it shows other keys than this client advertised")
    ids = [each.client for each in shown]
    if any(low >= high for low, high in pairwise(ids)):
        raise _refused("ROSTER_ORDER", "its clients are not distinct and in the order of the ids")
    keys = {key for each in shown for key in (each.channel_key, each.mask_key)}
    if len(keys) != 2 * len(shown):
        raise _refused("KEYS_NOT_DISTINCT", "two of its keys are the same")


def _check_root(context: bytes, roster: Roster, *, complete: bool) -> None:
    leaves = [_leaf(context, entry.advertisement) for entry in roster.entries]
    if complete:
        agrees = tree_hash(leaves) == roster.root
    else:
        agrees = all(
            verify_inclusion(roster.root, roster.size, entry.index, leaf, entry.inclusion_proof)
            for entry, leaf in zip(roster.entries, leaves, strict=True)
        )
    if not agrees:
        raise _refused("ROSTER_ROOT", "its entries do not belong to its root")


def _leaf(context: bytes, advertisement: KeyAdvertisement) -> bytes:
    return transcript.encode("roster-entry", context, *advertisement.parts())


def _refused(code: str, reason: str) -> ProtocolViolationError:
    return ProtocolViolationError(
        code, f"the roster is refused: {reason}; leave this round and tell the aggregator's owner"
    )
