"""Who broke the protocol without stopping the round."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Blame:
    """A client that broke the protocol.

    Attributes:
        client: its id.
        reason: `SHARE_WRONG`: it revealed a share that does not lie on the polynomial. A dealer
            can make its holder look so by dealing a wrong share, and encryption hides which of
            the two it was: one `about` is no proof, several different ones are.
        about: id of the client whose secret it was.
    """

    client: str
    reason: str
    about: str
