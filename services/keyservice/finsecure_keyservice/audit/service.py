"""The audit log over gRPC: checkpoints, proofs, events."""

# ruff: noqa: N802  (method names are those of the proto)

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import grpc
from finsecure.keyservice.v1 import audit_pb2, audit_pb2_grpc
from finsecure_crypto.checkpoint import LogVerifier
from finsecure_rpc.paging import decode_token, encode_token, page_size
from sqlalchemy import Connection

from finsecure_keyservice.audit.log import Entry
from finsecure_keyservice.audit.signed_log import Batch, SignedLog
from finsecure_keyservice.decisions import Transactions

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_BATCH = 256  # of at most 8 KiB each: a message stays well below its limit of 4 MiB
_POLL_S = 0.5


class AuditService(audit_pb2_grpc.AuditServiceServicer):
    """Reads the log of one process; writing is for who decides.

    Args:
        books: where transactions run.
        signed: the log with its keys.
    """

    def __init__(self, books: Transactions, signed: SignedLog) -> None:
        self._books = books
        self._signed = signed
        self._log = signed.log

    async def GetCheckpoint(
        self, request: audit_pb2.GetCheckpointRequest, context: Context
    ) -> audit_pb2.GetCheckpointResponse:
        """See the proto."""

        def sign(connection: Connection) -> tuple[str, LogVerifier]:
            note = self._signed.checkpoint(connection).note
            return note, self._signed.keys.signer(connection).verifier

        note, verifier = await self._books.transact(sign)
        return audit_pb2.GetCheckpointResponse(checkpoint=note, verifier_key=verifier.serialise())

    async def GetConsistencyProof(
        self, request: audit_pb2.GetConsistencyProofRequest, context: Context
    ) -> audit_pb2.GetConsistencyProofResponse:
        """See the proto."""
        hashes = await self._books.transact(
            lambda connection: self._log.tree(connection, request.second_size).consistency_proof(
                request.first_size
            )
        )
        return audit_pb2.GetConsistencyProofResponse(hashes=hashes)

    async def GetInclusionProof(
        self, request: audit_pb2.GetInclusionProofRequest, context: Context
    ) -> audit_pb2.GetInclusionProofResponse:
        """See the proto."""
        hashes = await self._books.transact(
            lambda connection: self._log.tree(connection, request.tree_size).inclusion_proof(
                request.index
            )
        )
        return audit_pb2.GetInclusionProofResponse(hashes=hashes)

    async def ProvePublication(
        self, request: audit_pb2.ProvePublicationRequest, context: Context
    ) -> audit_pb2.ProvePublicationResponse:
        """See the proto."""

        def prove(connection: Connection) -> tuple[Entry, str, list[bytes]]:
            entry = self._log.publication(connection, request.subject, request.sha256)
            newest = self._signed.checkpoint(connection)
            tree = self._log.tree(connection, newest.size)
            return entry, newest.note, tree.inclusion_proof(entry.index)

        entry, note, hashes = await self._books.transact(prove)
        return audit_pb2.ProvePublicationResponse(
            event=_event(entry), checkpoint=note, hashes=hashes
        )

    async def GetKeyHandover(
        self, request: audit_pb2.GetKeyHandoverRequest, context: Context
    ) -> audit_pb2.GetKeyHandoverResponse:
        """See the proto."""
        proof = await self._books.transact(
            lambda connection: self._signed.keys.handover(connection, request.verifier_key)
        )
        return audit_pb2.GetKeyHandoverResponse(
            event=audit_pb2.AuditEvent(index=proof.index, leaf=proof.leaf),
            checkpoint=proof.note,
            hashes=proof.hashes,
        )

    async def ListEvents(
        self, request: audit_pb2.ListEventsRequest, context: Context
    ) -> audit_pb2.ListEventsResponse:
        """See the proto."""
        size = min(page_size(request.page_size), _BATCH)
        scope = f"ListEvents:{request.start}:{request.subject}"
        (start,) = decode_token(request.page_token, scope, (int,)) or (request.start,)
        entries = await self._books.transact(
            lambda connection: self._log.entries(connection, start, size + 1, request.subject)
        )
        token = encode_token(scope, (entries[size].index,)) if len(entries) > size else ""
        return audit_pb2.ListEventsResponse(
            events=[_event(entry) for entry in entries[:size]], next_page_token=token
        )

    async def WatchEvents(
        self, request: audit_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[audit_pb2.WatchEventsResponse]:
        """See the proto."""
        position: int = request.start
        signed = position - 1  # a handover right here is told again: who asks may lack it

        def read(connection: Connection) -> Batch:
            return self._signed.batch(connection, position, _BATCH, signed)

        while True:
            batch = await self._books.transact(read)
            position += len(batch.entries)
            if batch.note:
                signed = position
            if batch.entries or batch.note:
                yield audit_pb2.WatchEventsResponse(
                    events=[_event(entry) for entry in batch.entries], checkpoint=batch.note
                )
            if position >= batch.size:
                # The console may write too, from another process, so nobody would wake us.
                await asyncio.sleep(_POLL_S)


def service(books: Transactions, signed: SignedLog) -> tuple[Callable[[Any, Any], None], object]:
    """The service with the generated function that adds it to a server."""
    return (
        audit_pb2_grpc.add_AuditServiceServicer_to_server,
        AuditService(books, signed),
    )


def _event(entry: Entry) -> audit_pb2.AuditEvent:
    return audit_pb2.AuditEvent(index=entry.index, leaf=entry.leaf)
