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
    pieces = [_head(label, len(parts))]
    for part in parts:
        # Joined once at the end: a part may be long.
        if type(part) is bytes:
            pieces += (_prefix(b"b", len(part)), part)
        else:
            pieces.append(_encoded(part))
    return b"".join(pieces)


def digest(label: str, *parts: Part) -> bytes:
    """Returns the SHA-256 digest, 32 bytes, of `encode(label, *parts)`.

    Raises:
        InvalidArgumentError: `TRANSCRIPT_PART`, as `encode`.
    """
    return hashlib.sha256(encode(label, *parts)).digest()


# The same labels, lengths and roster indices come again and again, thousands of times a round.
@lru_cache(maxsize=256)
def _head(label: str, parts: int) -> bytes:
    if not label or not label.isascii():
        raise InvalidArgumentError("TRANSCRIPT_PART", "a transcript label is not empty ASCII text")
    name = (_DOMAIN + label).encode("ascii")
    return len(name).to_bytes(8, "big") + name + parts.to_bytes(8, "big")


@lru_cache(maxsize=256)
def _prefix(tag: bytes, length: int) -> bytes:
    return tag + length.to_bytes(8, "big")


@lru_cache(maxsize=4096)
def _index(value: int) -> bytes:
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return _prefix(b"i", len(data)) + data


def _encoded(part: Part) -> bytes:
    # bool is an int in Python; letting it pass would make True and 1 the same part.
    if type(part) is int and part >= 0:
        return _index(part)
    if isinstance(part, bytes):
        return _prefix(b"b", len(part)) + part
    if isinstance(part, str):
        try:
            data = part.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidArgumentError(
                "TRANSCRIPT_PART", "a transcript text holds a lone surrogate; it is not Unicode"
            ) from None
        return _prefix(b"s", len(data)) + data
    raise InvalidArgumentError(
        "TRANSCRIPT_PART",
        f"a transcript part is bytes, text or a non-negative integer, not {type(part).__name__}",
    )
