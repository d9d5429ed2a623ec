"""Request ids: a repeated mutation gets the answer of the first one.

The id, the digest of the request and the response are stored in the transaction that does the
work, so either all of it happened or none of it (AIP-155).
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from finsecure_crypto.errors import ConflictError
from google.protobuf.message import Message
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    select,
)

Response = TypeVar("Response", bound=Message)


def request_table(metadata: MetaData, name: str = "requests") -> Table:
    """Declare the table of request ids."""
    return Table(
        name,
        metadata,
        Column("caller", String(512), nullable=False),
        Column("request_id", String(36), nullable=False),
        Column("digest", LargeBinary(32), nullable=False),
        Column("response", LargeBinary, nullable=False),
        Column("create_time", DateTime(timezone=True), nullable=False),
        PrimaryKeyConstraint("caller", "request_id"),
    )


def once(
    connection: Connection,
    table: Table,
    caller: str,
    request: Message,
    response_type: type[Response],
    act: Callable[[], Response],
    *,
    stored: Callable[[Response], Response] | None = None,
) -> Response:
    """Do what a request asks, or return what it was answered before.

    Args:
        connection: the transaction; `act` must do all its work in it.
        table: from `request_table`.
        caller: SPIFFE ID of the caller; ids of different callers never meet.
        request: has a field `request_id`, a UUID.
        response_type: class of the response.
        act: does the work.
        stored: makes the copy of the response that is kept, without what is shown only once.

    Raises:
        ConflictError: REQUEST_ID_CONFLICT when the id came before with another request; the
            caller's fault.
    """
    request_id = str(getattr(request, "request_id")).lower()  # noqa: B009 # not in Message's type
    digest = hashlib.sha256(
        request.DESCRIPTOR.full_name.encode()
        + b"\0"
        + request.SerializeToString(deterministic=True)
    ).digest()
    row = connection.execute(
        select(table.c.digest, table.c.response).where(
            table.c.caller == caller, table.c.request_id == request_id
        )
    ).one_or_none()
    if row is not None:
        if row.digest != digest:
            raise ConflictError(
                "REQUEST_ID_CONFLICT",
                "request_id was used for another request before: make a new UUID.",
            )
        return response_type.FromString(row.response)
    response = act()
    kept = response if stored is None else stored(response)
    connection.execute(
        insert(table).values(
            caller=caller,
            request_id=request_id,
            digest=digest,
            response=kept.SerializeToString(),
            create_time=datetime.now(UTC),
        )
    )
    return response
