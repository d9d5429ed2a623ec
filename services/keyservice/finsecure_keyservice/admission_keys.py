"""Secrets that let somebody in: how they are made, written, stored and compared.

A key reads `<prefix>_<id>_<secret>_<checksum>`: a fixed prefix for secret scanners, a public id to
find its record, 32 random bytes in base64url (43 characters), and a CRC-32 in hexadecimal that
catches typing errors before the store is asked. The store holds only an HMAC-SHA256 of it under a
pepper, so that a stolen database opens nothing. What a kind of key opens is not known here.
"""

import base64
import hmac
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

from finsecure_crypto.errors import AuthenticationError
from finsecure_crypto.randomness import Randomness, draw, draw_secret
from finsecure_crypto.secret import SecretBytes

ID_BYTES = 8
SECRET_BYTES = 32

_FORM = re.compile(r"([a-z]+)_([0-9a-f]{16})_([A-Za-z0-9_-]{43})_([0-9a-f]{8})", re.ASCII)

Pepper = Callable[[], SecretBytes]
"""Gives the pepper as it is now; called inside the transaction that issues or compares a key."""


@dataclass(frozen=True)
class AdmissionKey:
    """A key in clear: it exists only between its making and its owner, never in a store.

    Each kind is a subclass with a prefix and a label of its own, so no key serves as another kind.
    """

    PREFIX: ClassVar[str]
    LABEL: ClassVar[bytes]
    MALFORMED: ClassVar[str]
    CALLED: ClassVar[str]

    id: str
    secret: SecretBytes

    @classmethod
    def generate(cls, randomness: Randomness) -> Self:
        """Make a new key of 256 random bits."""
        return cls(draw(randomness, ID_BYTES).hex(), draw_secret(randomness, SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key as its owner typed it.

        Raises:
            AuthenticationError: the kind's MALFORMED code; the caller's mistake, found without the
                store.
        """
        match = _FORM.fullmatch(text.strip())
        if match is not None:
            key = cls(match[2], SecretBytes(base64.urlsafe_b64decode(match[3] + "=")))
            # Only one spelling counts: this checks the prefix, the checksum and the two spare bits
            # of base64.
            if key.expose() == match[0]:
                return key
        raise AuthenticationError(
            cls.MALFORMED,
            f"this is not a whole {cls.CALLED}; copy it again from `{cls.PREFIX}_` to the last "
            "character",
        )

    def expose(self) -> str:
        """The text form, to be shown once to its owner and never logged or stored."""
        secret = base64.urlsafe_b64encode(self.secret.expose()).rstrip(b"=").decode()
        text = f"{self.PREFIX}_{self.id}_{secret}"
        return f"{text}_{zlib.crc32(text.encode()):08x}"

    def digest(self, pepper: SecretBytes) -> bytes:
        """HMAC-SHA256 under the pepper: what the store holds (32 bytes)."""
        pre_image = self.LABEL + self.id.encode() + self.secret.expose()
        return hmac.digest(pepper.expose(), pre_image, "sha256")

    def matches(self, pepper: SecretBytes, stored: bytes | None) -> bool:
        """Compare with a stored digest in constant time.

        An unknown key (None) costs the same comparison, so that timing does not tell which ids
        exist.
        """
        equal = hmac.compare_digest(self.digest(pepper), bytes(32) if stored is None else stored)
        return equal and stored is not None


class ApiKey(AdmissionKey):
    """Lets one registered member in, once."""

    PREFIX = "fs"
    LABEL = b"finsecure/v1/api-key\x00"
    MALFORMED = "API_KEY_MALFORMED"
    CALLED = "API key"


class JoinToken(AdmissionKey):
    """Lets a number of new members of one role in."""

    PREFIX = "fsj"
    LABEL = b"finsecure/v1/join-token\x00"
    MALFORMED = "JOIN_TOKEN_MALFORMED"
    CALLED = "join token"
