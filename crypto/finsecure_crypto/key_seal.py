"""A secret that opens only with a threshold of operators' shares: the seal, and a share as text.

The secret is sealed by AES-256-GCM (NIST SP 800-38D) under a random 32-byte unseal key, which is
split by Shamir's scheme (CACM 1979) at the points 1 to n. The seal holds the SHA-256 of each
share, so that a wrong one is known at once, by itself: a share has 256 random bits or more, even to
who knows all that are one too few, so a digest helps nobody to guess it.

A sealed secret is lines of ASCII: the format, the set's id, the threshold, the digest of each
share, and the nonce, ciphertext and tag. The associated data is the transcript of format, purpose,
id, threshold and all digests, so a line that was changed or moved opens nothing.

A share reads `fsu_<set>_<number>_<share>_<checksum>`: a prefix for secret scanners, the set's id
(16 hexadecimal digits), its number, 36 bytes in base64url (48 characters, no spare bits), and a
CRC-32 in hexadecimal that catches typing errors. One share has exactly one spelling.
"""

import base64
import binascii
import hmac
import os
import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from finsecure_crypto import aead, shamir, transcript
from finsecure_crypto.errors import AuthenticationError, IntegrityError, InvalidArgumentError
from finsecure_crypto.randomness import Randomness, draw, draw_secret
from finsecure_crypto.secret import SecretBytes

MOST_SHARES = 16
MOST_SHARE_TEXT = 128
"""Characters that a share's text never exceeds."""

_FORMAT = 1
_SET_BYTES = 8
_SHARE = re.compile(r"fsu_([0-9a-f]{16})_([1-9][0-9]?)_([A-Za-z0-9_-]{48})_([0-9a-f]{8})", re.ASCII)
_MAGIC = b"finsecure-sealed "
_SEALED = re.compile(
    rb"finsecure-sealed 1\nset ([0-9a-f]{16})\nthreshold ([1-9][0-9]?)\n"
    rb"((?:share [0-9a-f]{64}\n){2,16})secret ([A-Za-z0-9+/]+={0,2})\n"
)


@dataclass(frozen=True)
class OperatorShare:
    """One operator's share of an unseal key.

    Attributes:
        set_id: of the set that it belongs to, 16 hexadecimal digits.
        number: its point, from 1.
        value: 36 bytes, nine elements of GF(2^31 - 1).
    """

    set_id: str
    number: int
    value: SecretBytes

    @classmethod
    def parse(cls, text: str) -> "OperatorShare":
        """Read a share as its owner has it; blanks around it do not count.

        Raises:
            InvalidArgumentError: SHARE_MALFORMED; its owner's mistake. It repeats nothing of it.
        """
        match = _SHARE.fullmatch(text.strip()) if len(text) <= 2 * MOST_SHARE_TEXT else None
        if match is not None:
            value = base64.urlsafe_b64decode(match[3])
            share = cls(match[1], int(match[2]), SecretBytes(value))
            # Only one spelling counts: this checks the checksum too.
            if share.number <= MOST_SHARES and share.expose() == match[0] and _canonical(value):
                return share
        raise InvalidArgumentError(
            "SHARE_MALFORMED",
            "this is not a whole share; copy it again from `fsu_` to the last character",
        )

    def expose(self) -> str:
        """The text form, for its owner alone."""
        encoded = base64.urlsafe_b64encode(self.value.expose()).decode()
        text = f"fsu_{self.set_id}_{self.number}_{encoded}"
        return f"{text}_{zlib.crc32(text.encode()):08x}"

    @property
    def digest(self) -> bytes:
        """SHA-256 of the share in its place, 32 bytes: what the seal knows of it."""
        return transcript.digest("unseal-share", self.set_id, self.number, self.value.expose())


class NewSeal(NamedTuple):
    """A seal with all that there is to hand out.

    Attributes:
        seal: what stays with the sealed secret.
        key: the unseal key.
        shares: one for each operator, by number.
    """

    seal: "KeySeal"
    key: SecretBytes
    shares: tuple[OperatorShare, ...]


@dataclass(frozen=True)
class KeySeal:
    """What is known of a set of shares without any of them.

    Attributes:
        set_id: 16 hexadecimal digits.
        threshold: how many shares open.
        digests: of each share, by number from 1.
    """

    set_id: str
    threshold: int
    digests: tuple[bytes, ...]

    @classmethod
    def create(cls, threshold: int, count: int, randomness: Randomness = os.urandom) -> NewSeal:
        """Draw an unseal key and split it.

        Raises:
            InvalidArgumentError: SHARE_THRESHOLD unless 2 <= threshold <= count <= 16.
        """
        if not 2 <= threshold <= count <= MOST_SHARES:
            raise InvalidArgumentError(
                "SHARE_THRESHOLD", f"choose 2 <= threshold <= shares <= {MOST_SHARES}"
            )
        set_id = draw(randomness, _SET_BYTES).hex()
        key = draw_secret(randomness)
        points = np.arange(1, count + 1, dtype=np.uint32)
        (values,) = shamir.split([key], threshold, points, randomness)
        shares = tuple(
            OperatorShare(set_id, number, SecretBytes(shamir.shares_to_bytes(value[None])))
            for number, value in enumerate(values, start=1)
        )
        return NewSeal(cls(set_id, threshold, tuple(share.digest for share in shares)), key, shares)

    def check(self, share: OperatorShare) -> None:
        """Return if a share is of this set and whole.

        Raises:
            AuthenticationError: SHARE_OF_ANOTHER_SET, SHARE_REJECTED; whoever gave it.
        """
        if share.set_id != self.set_id:
            raise AuthenticationError(
                "SHARE_OF_ANOTHER_SET",
                f"share {share.number} is of the set {share.set_id}, and {self.set_id} is in use: "
                "take the share that was handed out last",
            )
        known = self.digests[share.number - 1] if share.number <= len(self.digests) else b""
        if not hmac.compare_digest(share.digest, known):
            raise AuthenticationError(
                "SHARE_REJECTED",
                f"share {share.number} is not the one that was handed out; nothing was done with "
                "it. Ask its owner where it has been",
            )

    def combine(self, shares: Collection[OperatorShare]) -> SecretBytes:
        """Rebuild the unseal key from a threshold of shares or more.

        Raises:
            AuthenticationError: as `check`.
            InvalidArgumentError: SHARES_TOO_FEW; a share that is there twice counts once.
        """
        for share in shares:
            self.check(share)
        distinct = {share.number: share.value.expose() for share in shares}
        if len(distinct) < self.threshold:
            raise InvalidArgumentError(
                "SHARES_TOO_FEW",
                f"{len(distinct)} of the {self.threshold} shares that it takes are there; give "
                "those of more operators",
            )
        values = shamir.shares_from_bytes(b"".join(distinct.values()))
        points = np.array(list(distinct), np.uint32)
        (key,) = shamir.reconstruct_many(values[None], points, self.threshold)
        return key

    def close(
        self,
        key: SecretBytes,
        secret: SecretBytes,
        purpose: str,
        randomness: Randomness = os.urandom,
    ) -> bytes:
        """Seal a secret; returns the lines to store.

        Args:
            key: the unseal key.
            secret: any length.
            purpose: what the secret is; it opens for the same purpose only.
            randomness: where the nonce comes from.
        """
        sealed = aead.seal(key, secret, self._associated(purpose), randomness)
        head = f"finsecure-sealed {_FORMAT}\nset {self.set_id}\nthreshold {self.threshold}\n"
        shares = "".join(f"share {digest.hex()}\n" for digest in self.digests)
        return f"{head}{shares}secret {base64.b64encode(sealed).decode()}\n".encode()

    def _associated(self, purpose: str) -> bytes:
        return transcript.encode(
            "key-seal", _FORMAT, purpose, self.set_id, self.threshold, *self.digests
        )


@dataclass(frozen=True)
class SealedSecret:
    """A sealed secret as it is stored.

    Attributes:
        seal: of which set of shares.
        ciphertext: nonce, ciphertext and tag.
    """

    seal: KeySeal
    ciphertext: bytes

    @classmethod
    def parse(cls, content: bytes) -> "SealedSecret":
        """Read what `KeySeal.close` returned.

        Raises:
            IntegrityError: SEAL_DAMAGED; of whoever keeps the file.
        """
        match = _SEALED.fullmatch(content)
        if match is None:
            raise _damaged()
        digests = tuple(bytes.fromhex(line[6:].decode()) for line in match[3].splitlines())
        threshold = int(match[2])
        if not 2 <= threshold <= len(digests):
            raise _damaged()
        try:
            ciphertext = base64.b64decode(match[4], validate=True)
        except binascii.Error:
            raise _damaged() from None
        if base64.b64encode(ciphertext) != match[4]:  # spare bits: there is one spelling alone
            raise _damaged()
        return cls(KeySeal(match[1].decode(), threshold, digests), ciphertext)

    def open(self, key: SecretBytes, purpose: str) -> SecretBytes:
        """Open it with the unseal key.

        Raises:
            IntegrityError: SEAL_DAMAGED when it was changed, or sealed under another key or for
                another purpose.
        """
        try:
            return aead.open_(key, self.ciphertext, self.seal._associated(purpose))
        except IntegrityError:
            raise _damaged() from None


def is_sealed(content: bytes) -> bool:
    """Whether a file's content claims to be a sealed secret."""
    return content.startswith(_MAGIC)


def _canonical(value: bytes) -> bool:
    try:
        shamir.shares_from_bytes(value)
    except IntegrityError:
        return False
    return True


def _damaged() -> IntegrityError:
    return IntegrityError(
        "SEAL_DAMAGED",
        "a sealed key does not open: it was changed; restore its file from a backup",
    )
