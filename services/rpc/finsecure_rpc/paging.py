"""Pages of long lists: opaque tokens that say where the page before ended.

A token is bound to the listing it came from. It is checked like every other input, but needs no
authentication: it only says what the caller could have asked for anyway.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from finsecure_crypto.errors import InvalidArgumentError

DEFAULT_PAGE = 100
MAXIMUM_PAGE = 1000
_MOST_TOKEN = 512

Item = TypeVar("Item")


def page_size(requested: int, default: int = DEFAULT_PAGE, maximum: int = MAXIMUM_PAGE) -> int:
    """Entries on the page; 0 means the default.

    Raises:
        InvalidArgumentError: PAGE_SIZE_INVALID; the caller's.
    """
    if not 0 <= requested <= maximum:
        raise InvalidArgumentError(
            "PAGE_SIZE_INVALID", f"page_size is at most {maximum}, and 0 means {default}."
        )
    return requested or default


def _digest(scope: str) -> str:
    return hashlib.sha256(scope.encode()).hexdigest()[:16]


def encode_token(scope: str, after: tuple[str | int, ...]) -> str:
    """Make the token of the page that starts after a sort key.

    Args:
        scope: the listing with all its filters, such as `ListMembers:federations/lending`.
        after: sort key of the last entry on this page.
    """
    text = json.dumps([_digest(scope), *after], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def page_of(
    found: Sequence[Item], size: int, scope: str, key: Callable[[Item], tuple[str | int, ...]]
) -> tuple[Sequence[Item], str]:
    """Cut what was read to a page and make the token of the next one; empty if there is none.

    Args:
        found: one entry more than the page holds, if there are so many.
        size: entries on the page.
        scope: as in `encode_token`.
        key: gives the sort key of an entry.
    """
    if len(found) <= size:
        return found, ""
    return found[:size], encode_token(scope, key(found[size - 1]))


def decode_token(
    token: str, scope: str, types: tuple[type[str] | type[int], ...]
) -> tuple[Any, ...] | None:
    """Read a token; None for the first page.

    Args:
        token: what the caller sent.
        scope: as in `encode_token`.
        types: types of the parts of the sort key.

    Raises:
        InvalidArgumentError: PAGE_TOKEN_INVALID; the caller's.
    """
    if not token:
        return None
    try:
        if len(token) > _MOST_TOKEN:
            raise ValueError
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        digest, *after = json.loads(raw)
        fits = (
            digest == _digest(scope)
            and [type(part) for part in after] == list(types)
            and all(map(_storable, after))
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise _invalid() from error
    if not fits:
        raise _invalid()
    return tuple(after)


def _storable(part: str | int) -> bool:
    """Tell whether a database takes a part, as it takes all that a listing gives."""
    if isinstance(part, int):
        return -(2**63) <= part < 2**63
    return not any("\ud800" <= character <= "\udfff" for character in part)


def _invalid() -> InvalidArgumentError:
    return InvalidArgumentError(
        "PAGE_TOKEN_INVALID",
        "page_token is not one that this listing gave: start again without one.",
    )
