r"""The one encoding of everything that is hashed or signed: injective and domain-separated.

    encode(label, part…) = prefix(label) ‖ u64(number of parts) ‖ (tag ‖ prefix(part))…
    prefix(x)            = u64(length of x) ‖ x

with big-endian lengths, the label behind `finsecure/v1/`, and one tag octet for each type: `b`
bytes, `s` UTF-8 text, `i` a non-negative integer in its shortest big-endian form (zero is empty).
Lengths make two lists of parts with the same concatenation different, tags keep 1, "\x01" and
b"\x01" apart, and the label keeps a signature of one protocol step from serving in another.
"""

import hashlib
from functools import lru_cache

from finsecure_crypto.errors import InvalidArgumentError

_DOMAIN = "finsecure/v1/"

Part = bytes | int | str


def encode(label: str, *parts: Part) -> bytes:
    """Encodes labelled parts so that different inputs never give the same bytes.

    Args:
        label: name of the purpose, such as `share-keys`; not empty, ASCII.
        parts: bytes, non-negative integers of any size, or text.

    Raises:
        InvalidArgumentError: `TRANSCRIPT_PART` for an empty or non-ASCII label, a negative
            integer, text that is not Unicode, or a part of another type; a defect of the caller.
    """
    pieces = [_head(label), len(parts).to_bytes(8, "big")]
    for part in parts:
        tag, data = _typed(part)
        # Joined once at the end: a part may be long.
        pieces += (tag, len(data).to_bytes(8, "big"), data)
    return b"".join(pieces)


def digest(label: str, *parts: Part) -> bytes:
    """Returns the SHA-256 digest, 32 bytes, of `encode(label, *parts)`.

    Raises:
        InvalidArgumentError: `TRANSCRIPT_PART`, as `encode`.
    """
    return hashlib.sha256(encode(label, *parts)).digest()


@lru_cache(maxsize=256)
def _head(label: str) -> bytes:
    if not label or not label.isascii():
        raise InvalidArgumentError("TRANSCRIPT_PART", "a transcript label is not empty ASCII text")
    name = (_DOMAIN + label).encode("ascii")
    return len(name).to_bytes(8, "big") + name


def _typed(part: Part) -> tuple[bytes, bytes]:
    if isinstance(part, bytes):
        return b"b", part
    if isinstance(part, str):
        try:
            return b"s", part.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidArgumentError(
                "TRANSCRIPT_PART", "a transcript text holds a lone surrogate; it is not Unicode"
            ) from None
    # bool is an int in Python; letting it pass would make True and 1 the same part.
    if isinstance(part, int) and not isinstance(part, bool) and part >= 0:
        return b"i", part.to_bytes((part.bit_length() + 7) // 8, "big")
    raise InvalidArgumentError(
        "TRANSCRIPT_PART",
        f"a transcript part is bytes, text or a non-negative integer, not {type(part).__name__}",
    )
