"""The audit log over gRPC: checkpoints, proofs, events."""

# ruff: noqa: N802  (method names are those of the proto)

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import grpc
from finsecure.keyservice.v1 import audit_pb2, audit_pb2_grpc
from finsecure_crypto.checkpoint import LogSigner
from finsecure_crypto.merkle import Edge
from finsecure_rpc.paging import decode_token, encode_token, page_size
from sqlalchemy import Connection

from finsecure_keyservice.audit.log import AuditLog, Entry
from finsecure_keyservice.decisions import Transactions

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_BATCH = 256  # of at most 8 KiB each: a message stays well below its limit of 4 MiB
_POLL_S = 0.5


class AuditService(audit_pb2_grpc.AuditServiceServicer):
    """Reads the log of one process; writing is for who decides.

    Args:
        books: where transactions run.
        log: the log.
        signer: its key.
    """

    def __init__(self, books: Transactions, log: AuditLog, signer: LogSigner) -> None:
        self._books = books
        self._log = log
        self._signer = signer

    async def GetCheckpoint(
        self, request: audit_pb2.GetCheckpointRequest, context: Context
    ) -> audit_pb2.GetCheckpointResponse:
        """See the proto."""
        edge = await self._books.transact(self._log.edge)
        return audit_pb2.GetCheckpointResponse(
            checkpoint=self._sign(edge), verifier_key=self._signer.verifier.serialise()
        )

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

        def prove(connection: Connection) -> tuple[Entry, Edge, list[bytes]]:
            entry = self._log.publication(connection, request.subject, request.sha256)
            edge = self._log.edge(connection)
            return entry, edge, self._log.tree(connection, edge.size).inclusion_proof(entry.index)

        entry, edge, hashes = await self._books.transact(prove)
        return audit_pb2.ProvePublicationResponse(
            event=_event(entry), checkpoint=self._sign(edge), hashes=hashes
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

        def read(connection: Connection) -> tuple[list[Entry], Edge]:
            return list(self._log.entries(connection, position, _BATCH)), self._log.edge(connection)

        said = False
        while True:
            entries, edge = await self._books.transact(read)
            position += len(entries)
            if entries or not said:
                said = position >= edge.size
                yield audit_pb2.WatchEventsResponse(
                    events=[_event(entry) for entry in entries],
                    checkpoint=self._sign(edge) if said else "",
                )
            if said:
                # The console may write too, from another process, so nobody would wake us.
                await asyncio.sleep(_POLL_S)

    def _sign(self, edge: Edge) -> str:
        return self._signer.sign(edge.size, edge.root)


def service(
    books: Transactions, log: AuditLog, signer: LogSigner
) -> tuple[Callable[[Any, Any], None], object]:
    """The service with the generated function that adds it to a server."""
    return (
        audit_pb2_grpc.add_AuditServiceServicer_to_server,
        AuditService(books, log, signer),
    )


def _event(entry: Entry) -> audit_pb2.AuditEvent:
    return audit_pb2.AuditEvent(index=entry.index, leaf=entry.leaf)
