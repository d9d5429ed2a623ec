"""A client's place in a round: who it is, the session it accepted, and what it insists on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from finsecure_crypto.errors import ProtocolViolationError
from finsecure_crypto.secagg import bitmaps
from finsecure_crypto.secagg.parameters import RoundParameters, required_inputs
from finsecure_crypto.secagg.roster import Peer, Session
from finsecure_crypto.signing import SigningKey


@dataclass(frozen=True)
class Identity:
    """Who a client is.

    Attributes:
        client_id: its id in the federation.
        certificate: its signing certificate, DER.
        signing_key: the Ed25519 key that the certificate names.
    """

    client_id: str
    certificate: bytes = field(repr=False)
    signing_key: SigningKey = field(repr=False)


@dataclass(frozen=True, eq=False)
class Member:
    """A client's place in a session, the same for all later phases."""

    parameters: RoundParameters
    identity: Identity
    session: Session
    index: int
    peers: Mapping[int, Peer] = field(repr=False)

    def members(self, bitmap: bytes, within: bitmaps.Members | None = None) -> bitmaps.Members:
        """Reads a set of clients that the server claims are left, and checks that it is enough.

        Raises:
            ProtocolViolationError: `BITMAP_MALFORMED`, `SET_NOT_SHRINKING`, `SELF_LEFT_OUT` or
                `COHORT_TOO_SMALL`; the server's.
        """
        members = bitmaps.unpack(bitmap, self.session.size)
        if within is not None and np.any(members & ~within):
            raise refused("SET_NOT_SHRINKING", "it counts clients that had dropped out")
        if not members[self.index]:
            raise refused("SELF_LEFT_OUT", "it leaves this client out and asks it to go on")
        required = required_inputs(self.parameters, self.session.graph.thresholds)
        if np.count_nonzero(members) < required:
            raise refused(
                "COHORT_TOO_SMALL",
                f"it leaves {np.count_nonzero(members)} clients, this client insists on {required}",
            )
        return members

    def require_holders(self, count: int) -> None:
        """Refuses to go on with fewer holders than rebuild a secret.

        Raises:
            ProtocolViolationError: `TOO_FEW_HOLDERS`; the server's.
        """
        if count < self.session.threshold:
            raise refused(
                "TOO_FEW_HOLDERS",
                f"{count} of this client's holders are left, {self.session.threshold} are needed",
            )


def refused(code: str, reason: str) -> ProtocolViolationError:
    """Makes the error for an instruction that no honest server sends."""
    return ProtocolViolationError(
        code, f"the aggregator is refused: {reason}; leave this round attempt"
    )
