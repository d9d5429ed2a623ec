"""What a trustee works with beside requests: its database, its wrapping key, whom it believes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from finsecure_crypto import transcript
from finsecure_crypto.certificates import RevocationList, TrustAnchors
from finsecure_crypto.errors import AuthenticationError, UnavailableError
from finsecure_crypto.homomorphic.key_record import KeyDescription, KeyState
from finsecure_rpc.authenticator import RevocationSource
from finsecure_rpc.federation_minima import Minima

from finsecure_keyservice.clock import Clock
from finsecure_keyservice.protection.kek import KeyEncryptionKey
from finsecure_keyservice.trustee.books import Books
from finsecure_keyservice.trustee.rules import Rules


def share_context(key_name: str) -> bytes:
    """What a wrapped share is bound to."""
    return transcript.encode("trustee-share", key_name)


def trustee_name(federation: str, trustee: str) -> str:
    """Resource name of a trustee, from the ids of its federation and its own."""
    return f"federations/{federation}/trustees/{trustee}"


class KeyStates(Protocol):
    """Knows where keys stand, from the key service."""

    async def state(self, key_name: str) -> KeyState:
        """State of a key now.

        Raises:
            NotFoundError: KEY_UNKNOWN.
            UnavailableError: when it cannot be asked for; then nothing is opened.
        """
        ...

    async def proven(self, key: KeyDescription, state: KeyState) -> int:
        """Demand that the key service's log has the event by which a key went to a state.

        Returns:
            Number of the event in that log.

        Raises:
            NotFoundError: PUBLICATION_NOT_FOUND.
            IntegrityError: the log or the proof is not honest; the key service's fault.
            UnavailableError: when it cannot be asked for.
        """
        ...


@dataclass(frozen=True)
class Surroundings:
    """What openings and ceremonies work with.

    Attributes:
        books: the trustee's database and the log in it.
        custody: wraps what is secret for the database.
        states: where keys stand.
        minima: what the federation demands of cohorts.
        anchors: the authorities that are believed now.
        revocations: the newest revocation list.
        trust_domain: of the federation.
        rules: the owner's.
        partial_timeout_s: how long the computation of a partial may take.
    """

    books: Books
    custody: KeyEncryptionKey
    states: KeyStates
    minima: Minima
    anchors: Callable[[], TrustAnchors]
    revocations: RevocationSource
    trust_domain: str
    rules: Rules
    partial_timeout_s: float

    @property
    def clock(self) -> Clock:
        """Aware UTC time."""
        return self.books.auditor.clock

    def revoked(self) -> RevocationList:
        """The newest revocation list.

        Raises:
            UnavailableError: REVOCATION_LIST_STALE; this trustee's trouble, not the identity of
                whoever calls.
        """
        try:
            return self.revocations.current()
        except AuthenticationError as error:
            raise UnavailableError(error.code, error.message) from error
