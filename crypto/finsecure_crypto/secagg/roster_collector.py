"""What the server's phases have in common once there is a roster."""

from dataclasses import dataclass, field

import numpy as np

from finsecure_crypto import signing
from finsecure_crypto.errors import StateError
from finsecure_crypto.secagg import bitmaps, statements
from finsecure_crypto.secagg.collector import (
    AnswerCollector,
    History,
    Message,
    Verified,
    violation,
)
from finsecure_crypto.secagg.graph import Indices
from finsecure_crypto.secagg.parameters import RoundParameters, required_inputs
from finsecure_crypto.secagg.roster import Peer, SealedRoster


@dataclass(frozen=True, eq=False)
class ServerRound:
    """What all phases after the first know of the round."""

    parameters: RoundParameters
    roster: SealedRoster
    peers: tuple[Peer, ...]

    @property
    def session(self) -> bytes:
        """Digest of the session."""
        return self.roster.session.digest

    def members(self, clients: frozenset[str]) -> bitmaps.Members:
        """Returns the set of these clients over the roster."""
        members = np.zeros(len(self.peers), np.bool_)
        members[[self.roster.index_of(client) for client in clients]] = True
        return members

    def ids(self, members: bitmaps.Members) -> frozenset[str]:
        """Returns the ids of a set over the roster."""
        return frozenset(self.roster.clients[i] for i in np.flatnonzero(members).tolist())

    def require_holders(self, code: str, owners: bitmaps.Members, present: bitmaps.Members) -> None:
        """Refuses to go on when one of the owners' secrets could no longer be rebuilt."""
        counts = self.roster.session.graph.holder_counts(present)
        fewest = int(counts[owners].min(initial=len(self.peers)))
        require(code, fewest, self.roster.session.threshold)


class RosterCollector(AnswerCollector[Message, Verified]):
    """A collector of a phase that has a roster."""

    def __init__(self, round_: ServerRound, expected: frozenset[str], history: History) -> None:
        super().__init__(expected, history)
        self._round = round_
        self._graph = round_.roster.session.graph

    @property
    def parameters(self) -> RoundParameters:
        """The round."""
        return self._round.parameters

    @property
    def roster(self) -> SealedRoster:
        """Who is in the round, with `for_client(id)`."""
        return self._round.roster

    def _index(self, client: str) -> int:
        return self._round.roster.index_of(client)

    def _holders(self, index: int) -> Indices:
        holders: Indices = self._graph.adjacency.holders[index]
        return holders

    def _closed(self, code: str, owners: bitmaps.Members | None = None) -> bitmaps.Members:
        """Returns those that answered, once they are enough.

        Enough means: the minimum cohort, and for each secret that may be needed, of the owners or
        else of those that answered, t holders.
        """
        members = self._round.members(self.accepted)
        required = required_inputs(self.parameters, self._graph.thresholds)
        require(code, len(self._accepted), required)
        self._round.require_holders(code, members if owners is None else owners, members)
        return members

    def _require_signature(
        self, client: str, signature: bytes, statement: statements.Statement
    ) -> None:
        public = self._round.peers[self._index(client)].signing_key
        if not signing.verify(public, signature, *statement):
            raise violation("MESSAGE_SIGNATURE", client, "its message is not signed by it")


@dataclass(frozen=True, eq=False)
class Masked:
    """Whose masks are in the sum, and what their seeds are checked against."""

    sharers: bitmaps.Members
    survivors: bitmaps.Members
    commitments: dict[int, bytes] = field(repr=False)


def require(code: str, found: int, required: int) -> None:
    """Refuses to end a phase with too few."""
    if found < required:
        raise StateError(
            code, f"{found} are left where {required} are needed; wait for more, or abort the round"
        )
