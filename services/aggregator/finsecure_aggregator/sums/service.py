"""The RPCs of audited sums: find out who calls, convert, call, convert."""
# ruff: noqa: N802 -- the methods' names are the wire contract's

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from finsecure.aggregation.v1 import sums_pb2, sums_pb2_grpc
from finsecure_crypto.errors import PermissionDeniedError
from finsecure_rpc.paging import decode_token, page_of, page_size
from finsecure_rpc.peer import require_peer
from finsecure_rpc.policy import ADMINISTRATORS
from sqlalchemy import Connection

from finsecure_aggregator.mutations import once_for_caller
from finsecure_aggregator.names import Names
from finsecure_aggregator.sums import convert, store
from finsecure_aggregator.sums.desk import AuditedSums
from finsecure_aggregator.sums.records import SumRecord, SumState, SumStatus

_MOST_LISTED = 200  # descriptions may be long, and a page is one message
_WATCH_PAUSE_S = 0.5  # every contribution is a change: take several together

Context = Any  # grpc.aio.ServicerContext, whatever its messages


class AuditedSumService(sums_pb2_grpc.AuditedSumServiceServicer):
    """Audited sums.

    Args:
        names: of the one federation that is served.
        sums: all sums.
    """

    def __init__(self, names: Names, sums: AuditedSums) -> None:
        self._names = names
        self._sums = sums
        self._store = sums.around.store

    async def CreateSum(
        self, request: sums_pb2.CreateSumRequest, context: Context
    ) -> sums_pb2.CreateSumResponse:
        """Ask for contributions."""
        name = self._names.sum(request.name)
        plan = convert.plan(name, convert.spec_bytes(request.spec))
        self._names.require(plan.terms.key_name.split("/")[1])
        record = await self._sums.prepare(plan, str(require_peer().spiffe_id))
        most = self._sums.around.rules.at_once

        def act(connection: Connection) -> sums_pb2.CreateSumResponse:
            created = SumStatus(store.create(connection, record, most), ())
            return sums_pb2.CreateSumResponse(sum=convert.sum_(created))

        response = await once_for_caller(
            self._store, request, name, sums_pb2.CreateSumResponse, act
        )
        self._sums.run(name)
        return response

    async def GetSum(
        self, request: sums_pb2.GetSumRequest, context: Context
    ) -> sums_pb2.GetSumResponse:
        """Read a sum."""
        status = await self._status(self._names.sum(request.name))
        return sums_pb2.GetSumResponse(sum=convert.sum_(status))

    async def ListSums(
        self, request: sums_pb2.ListSumsRequest, context: Context
    ) -> sums_pb2.ListSumsResponse:
        """Read a page of sums."""
        self._names.federation(request.parent)
        size = min(page_size(request.page_size), _MOST_LISTED)
        scope = f"ListSums:{request.parent}"
        after = decode_token(request.page_token, scope, (str,)) or ("",)
        found = await self._store.transact(lambda c: store.page(c, after=after[0], limit=size + 1))
        page, token = page_of(found, size, scope, lambda record: (record.name,))
        return sums_pb2.ListSumsResponse(sums=convert.listed(page), next_page_token=token)

    async def WatchSum(
        self, request: sums_pb2.WatchSumRequest, context: Context
    ) -> AsyncIterator[sums_pb2.WatchSumResponse]:
        """Send the sum's state at each change, until it ends."""
        name = self._names.sum(request.name)
        sent: SumStatus | None = None
        with self._sums.around.changes.watch((name,)) as changed:
            while True:
                changed.clear()
                status = await self._status(name)
                if status != sent:
                    yield sums_pb2.WatchSumResponse(sum=convert.sum_(status))
                    sent = status
                if status.record.state.ended:
                    return
                await asyncio.sleep(_WATCH_PAUSE_S)
                await changed.wait()

    async def Contribute(
        self, request: sums_pb2.ContributeRequest, context: Context
    ) -> sums_pb2.ContributeResponse:
        """Take the calling member's ciphertexts."""
        name, client = self._names.sum(request.sum), require_peer().id
        sha256 = hashlib.sha256(request.ciphertexts).digest()
        contribution = convert.contribution(client, sha256, request)
        await self._sums.contribute(name, contribution, request.ciphertexts)
        return sums_pb2.ContributeResponse(sha256=sha256)

    async def OpenSum(
        self, request: sums_pb2.OpenSumRequest, context: Context
    ) -> sums_pb2.OpenSumResponse:
        """Take no more contributions, and let the trustees open their total."""
        name = self._names.sum(request.name)
        record = await self._owned(name)
        start = await self._sums.around.start_opening(convert.plan(name, record.spec))

        def act(connection: Connection) -> sums_pb2.OpenSumResponse:
            start(connection)
            return sums_pb2.OpenSumResponse(sum=convert.sum_(store.status(connection, name)))

        response = await once_for_caller(self._store, request, name, sums_pb2.OpenSumResponse, act)
        if response.sum.state == sums_pb2.SUM_STATE_OPENING:
            self._sums.run(name)
        return response

    async def CancelSum(
        self, request: sums_pb2.CancelSumRequest, context: Context
    ) -> sums_pb2.CancelSumResponse:
        """End a sum without totals."""
        name = self._names.sum(request.name)
        await self._owned(name)
        now_ns, detail = self._sums.around.clock.now_ns(), f"cancelled by {require_peer().id}"

        def act(connection: Connection) -> sums_pb2.CancelSumResponse:
            store.end(connection, name, SumState.CANCELLED, now_ns, detail=detail)
            return sums_pb2.CancelSumResponse(sum=convert.sum_(store.status(connection, name)))

        response = await once_for_caller(
            self._store, request, name, sums_pb2.CancelSumResponse, act
        )
        await self._sums.give_up(name)
        return response

    async def _status(self, name: str) -> SumStatus:
        return await self._store.transact(lambda connection: store.status(connection, name))

    async def _owned(self, name: str) -> SumRecord:
        """Read a sum that the caller may decide about; PermissionDeniedError SUM_OF_ANOTHER."""
        record = await self._store.transact(lambda connection: store.read(connection, name))
        peer = require_peer()
        if peer.spiffe_id.role not in ADMINISTRATORS and record.creator != str(peer.spiffe_id):
            raise PermissionDeniedError(
                "SUM_OF_ANOTHER",
                f"{name} was created by {record.creator}; only it or an operator may do this",
            )
        return record
