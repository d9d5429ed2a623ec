"""Mutations: done once for each request id of a caller, and answered the same again."""

from collections.abc import Callable
from typing import TypeVar

from finsecure_rpc.idempotency import once
from finsecure_rpc.peer import require_peer
from google.protobuf.message import Message
from sqlalchemy import Connection

from finsecure_aggregator import schema
from finsecure_aggregator.store import Store

Response = TypeVar("Response", bound=Message)


async def once_for_caller(
    store: Store, request: Message, kind: type[Response], act: Callable[[Connection], Response]
) -> Response:
    """Do what the present caller asks in one transaction, or answer as before.

    Args:
        store: where the request id is kept, and what `act` changes.
        request: has a field `request_id`.
        kind: class of the response.
        act: does all the work, with the transaction that it gets.

    Raises:
        ConflictError: REQUEST_ID_CONFLICT, the caller's fault; and what `act` raises.
    """
    caller = str(require_peer().spiffe_id)
    return await store.transact(
        lambda connection: once(
            connection, schema.requests, caller, request, kind, lambda: act(connection)
        )
    )
