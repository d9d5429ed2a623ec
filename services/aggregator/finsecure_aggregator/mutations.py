"""Mutations: done once for each request id of a caller, answered the same again, and logged."""

from collections.abc import Callable
from typing import TypeVar

from finsecure_rpc.idempotency import once
from finsecure_rpc.logs import get_logger
from finsecure_rpc.peer import require_peer
from google.protobuf.message import Message
from sqlalchemy import Connection

from finsecure_aggregator import schema
from finsecure_aggregator.store import Store

_log = get_logger(__name__)

Response = TypeVar("Response", bound=Message)


async def once_for_caller(
    store: Store,
    request: Message,
    subject: str,
    kind: type[Response],
    act: Callable[[Connection], Response],
) -> Response:
    """Do what the present caller asks in one transaction, or answer as before.

    Args:
        store: where the request id is kept, and what `act` changes.
        request: has a field `request_id`.
        subject: name of what is changed, for the log.
        kind: class of the response.
        act: does all the work, with the transaction that it gets.

    Raises:
        ConflictError: REQUEST_ID_CONFLICT, the caller's fault; and what `act` raises.
    """
    caller = str(require_peer().spiffe_id)
    log_change(request.DESCRIPTOR.name.removesuffix("Request"), subject)
    return await store.transact(
        lambda connection: once(
            connection, schema.requests, caller, request, kind, lambda: act(connection)
        )
    )


def log_change(method: str, subject: str) -> None:
    """Log what the present caller asks for, before it is done: who hangs up is in the log too.

    If it is not done after all, the guard logs the call as refused or failed.

    Args:
        method: name of the RPC.
        subject: name of what it changes.
    """
    caller = str(require_peer().spiffe_id)
    _log.info("change asked for", method=method, subject=subject, caller=caller)
