"""API keys: how they are made, written, stored and compared; nothing about what they open.

A key reads `fs_<id>_<secret>_<checksum>`: a fixed prefix for secret scanners, a public id to find
its record, 32 random bytes in base64url (43 characters), and a CRC-32 in hexadecimal that catches
typing errors before the store is asked. The store holds only an HMAC-SHA256 of it under a pepper,
so that a stolen database opens nothing.
"""

import base64
import hmac
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from finsecure_crypto.errors import AuthenticationError
from finsecure_crypto.randomness import Randomness, draw, draw_secret
from finsecure_crypto.secret import SecretBytes

ID_BYTES = 8
SECRET_BYTES = 32

_FORM = re.compile(r"fs_([0-9a-f]{16})_([A-Za-z0-9_-]{43})_([0-9a-f]{8})", re.ASCII)
_LABEL = b"finsecure/v1/api-key\x00"

Pepper = Callable[[], SecretBytes]
"""Gives the pepper as it is now; called inside the transaction that issues or compares a key."""


@dataclass(frozen=True)
class ApiKey:
    """An API key in clear: it exists only between its making and its owner, never in a store."""

    id: str
    secret: SecretBytes

    @classmethod
    def generate(cls, randomness: Randomness) -> "ApiKey":
        """Make a new key of 256 random bits."""
        return cls(draw(randomness, ID_BYTES).hex(), draw_secret(randomness, SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> "ApiKey":
        """Read a key as its owner typed it.

        Raises:
            AuthenticationError: API_KEY_MALFORMED; the caller's mistake, found without the store.
        """
        match = _FORM.fullmatch(text.strip())
        if match is not None:
            key = cls(match[1], SecretBytes(base64.urlsafe_b64decode(match[2] + "=")))
            # Only one spelling counts: this checks the checksum and the two spare bits of base64.
            if key.expose() == match[0]:
                return key
        raise AuthenticationError(
            "API_KEY_MALFORMED",
            "this is not a whole API key; copy it again from `fs_` to the last character",
        )

    def expose(self) -> str:
        """The text form, to be shown once to the member and never logged or stored."""
        secret = base64.urlsafe_b64encode(self.secret.expose()).rstrip(b"=").decode()
        return f"fs_{self.id}_{secret}_{_checksum(self.id, secret)}"

    def digest(self, pepper: SecretBytes) -> bytes:
        """HMAC-SHA256 under the pepper: what the store holds (32 bytes)."""
        pre_image = _LABEL + self.id.encode() + self.secret.expose()
        return hmac.digest(pepper.expose(), pre_image, "sha256")

    def matches(self, pepper: SecretBytes, stored: bytes | None) -> bool:
        """Compare with a stored digest in constant time.

        An unknown key (None) costs the same comparison, so that timing does not tell which ids
        exist.
        """
        equal = hmac.compare_digest(self.digest(pepper), bytes(32) if stored is None else stored)
        return equal and stored is not None


def _checksum(key_id: str, secret: str) -> str:
    return f"{zlib.crc32(f'fs_{key_id}_{secret}'.encode()):08x}"
