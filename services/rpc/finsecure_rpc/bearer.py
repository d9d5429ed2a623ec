"""Callers with a bearer token (RFC 6750) in place of a certificate: people, nobody else."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from finsecure_crypto.certificates import SpiffeId
from finsecure_crypto.errors import AuthenticationError

MAXIMUM_TOKEN = 8192
"""Most characters of a token."""

BEARER_PREFIX = "oidc-"
"""Ids of those who come with a token begin so, and no member's does."""


@dataclass(frozen=True)
class Bearer:
    """Whoever a verified token speaks of.

    Attributes:
        spiffe_id: name under which it acts here; follows from issuer and subject.
        subject: subject in the token, for people who read the log.
        not_after: until when it is let in.
        key_id: of the provider's key that signed the token.
        key_thumbprint: of that key (RFC 7638), since an id may be given to another key.
    """

    spiffe_id: SpiffeId
    subject: str
    not_after: datetime
    key_id: str
    key_thumbprint: str


class Bearers(Protocol):
    """Whoever can verify tokens."""

    def verify(self, token: str) -> Bearer:
        """Verify a token.

        Raises:
            AuthenticationError: TOKEN_*.
            PermissionDeniedError: TOKEN_WITHOUT_ROLE.
        """

    def recheck(self, bearer: Bearer) -> None:
        """Check again what changes with time.

        Raises:
            AuthenticationError: TOKEN_EXPIRED; TOKEN_KEY_UNKNOWN when the provider has withdrawn
                or replaced the key that signed the token, or could not be asked for too long.
        """


@dataclass(frozen=True)
class TokenDoor:
    """Where people come in with tokens.

    Attributes:
        bearers: verifies tokens.
        methods: full names of those that take one, of callers whose role may call them.
    """

    bearers: Bearers
    methods: frozenset[str]


def token_of(metadata: Iterable[Any]) -> str | None:
    """The bearer token in a call's metadata, if there is one.

    Raises:
        AuthenticationError: TOKEN_MALFORMED if there are several, another scheme, or too much.
    """
    values = [value for key, value in metadata if key == "authorization"]
    if not values:
        return None
    scheme, _, token = str(values[0]).partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not 0 < len(token) <= MAXIMUM_TOKEN:
        raise AuthenticationError(
            "TOKEN_MALFORMED",
            "send one header `authorization: Bearer <token>`, the token of at most "
            f"{MAXIMUM_TOKEN} characters",
        )
    return token
