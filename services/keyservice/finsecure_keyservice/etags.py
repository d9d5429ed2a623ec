"""Etags: the revision of a thing, as the wire has it."""

from finsecure_crypto.errors import ConflictError


def etag(revision: int) -> str:
    """The etag of a revision."""
    return f"{revision:x}"


def revision(etag: str) -> int | None:
    """The revision that an etag stands for; None for the empty one.

    Raises:
        ConflictError: ETAG_MISMATCH for what no etag is.
    """
    if not etag:
        return None
    try:
        return int(etag, 16)
    except ValueError:
        raise ConflictError(
            "ETAG_MISMATCH", "this etag is none of ours; read the thing again, then decide"
        ) from None
