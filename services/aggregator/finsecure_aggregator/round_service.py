"""The RPCs of the history of rounds."""
# ruff: noqa: N802 -- the methods' names are the wire contract's

from typing import Any

from finsecure.aggregation.v1 import tasks_pb2, tasks_pb2_grpc
from finsecure_rpc.paging import decode_token, page_of, page_size

from finsecure_aggregator.desk import Desk
from finsecure_aggregator.wire.rounds import round_to_wire

Context = Any  # grpc.aio.ServicerContext, whatever its messages


class RoundService(tasks_pb2_grpc.RoundServiceServicer):
    """History of rounds."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def GetRound(
        self, request: tasks_pb2.GetRoundRequest, context: Context
    ) -> tasks_pb2.GetRoundResponse:
        """Read a round."""
        record = await self._desk.store.round(self._desk.names.round(request.name))
        return tasks_pb2.GetRoundResponse(round=round_to_wire(record))

    async def ListRounds(
        self, request: tasks_pb2.ListRoundsRequest, context: Context
    ) -> tasks_pb2.ListRoundsResponse:
        """Read a page of a task's rounds."""
        task = self._desk.names.task(request.parent)
        size, scope = page_size(request.page_size), f"ListRounds:{task}"
        after = decode_token(request.page_token, scope, (int, int)) or (-1, 0)
        await self._desk.store.task(task)
        found = await self._desk.store.rounds(task, after=(after[0], after[1]), limit=size + 1)
        page, token = page_of(found, size, scope, lambda r: (r.key.number, r.key.attempt))
        return tasks_pb2.ListRoundsResponse(
            rounds=[round_to_wire(record) for record in page], next_page_token=token
        )
