"""The RPCs of tasks: find out who calls, convert, call, convert."""
# ruff: noqa: N802 -- the methods' names are the wire contract's

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from finsecure.aggregation.v1 import tasks_pb2, tasks_pb2_grpc
from finsecure_rpc.paging import decode_token, page_of, page_size
from finsecure_rpc.peer import require_peer
from sqlalchemy import Connection

from finsecure_aggregator import transactions
from finsecure_aggregator.desk import Desk
from finsecure_aggregator.mutations import once_for_caller
from finsecure_aggregator.records import TaskRecord, TaskState
from finsecure_aggregator.wire.rounds import round_to_wire
from finsecure_aggregator.wire.tasks import plan_of, spec_bytes

_WATCH_PAUSE_S = 0.1  # every message of a round is a change: take several together

Context = Any  # grpc.aio.ServicerContext, whatever its messages


class TaskService(tasks_pb2_grpc.TaskServiceServicer):
    """Tasks."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateTask(
        self, request: tasks_pb2.CreateTaskRequest, context: Context
    ) -> tasks_pb2.CreateTaskResponse:
        """Register a task."""
        desk, spec = self._desk, spec_bytes(request.task.spec)
        name = desk.names.task(request.task.name)
        # A sparse graph for very many clients takes seconds to search.
        plan = plan_of(name, spec)
        await asyncio.to_thread(plan.check)
        await desk.minima.require_round(plan.terms.minimum_cohort)
        await desk.encryption.check(plan)
        record = TaskRecord(name, spec, TaskState.AWAITING_MODEL, "", desk.clock.now_ns())

        def act(connection: Connection) -> tasks_pb2.CreateTaskResponse:
            created = transactions.create_task(connection, record)
            return tasks_pb2.CreateTaskResponse(task=desk.task(created))

        return await once_for_caller(desk.store, request, name, tasks_pb2.CreateTaskResponse, act)

    async def GetTask(
        self, request: tasks_pb2.GetTaskRequest, context: Context
    ) -> tasks_pb2.GetTaskResponse:
        """Read a task."""
        record = await self._desk.store.task(self._desk.names.task(request.name))
        return tasks_pb2.GetTaskResponse(task=self._desk.task(record))

    async def ListTasks(
        self, request: tasks_pb2.ListTasksRequest, context: Context
    ) -> tasks_pb2.ListTasksResponse:
        """Read a page of tasks."""
        self._desk.names.federation(request.parent)
        size, scope = page_size(request.page_size), f"ListTasks:{request.parent}"
        after = decode_token(request.page_token, scope, (str,)) or ("",)
        found = await self._desk.store.tasks(after=after[0], limit=size + 1)
        page, token = page_of(found, size, scope, lambda record: (record.name,))
        return tasks_pb2.ListTasksResponse(
            tasks=[self._desk.task(record) for record in page], next_page_token=token
        )

    async def CancelTask(
        self, request: tasks_pb2.CancelTaskRequest, context: Context
    ) -> tasks_pb2.CancelTaskResponse:
        """End a task."""
        desk, name = self._desk, self._desk.names.task(request.name)
        by = require_peer().id

        def act(connection: Connection) -> tasks_pb2.CancelTaskResponse:
            cancelled = transactions.cancel_task(connection, name, by)
            return tasks_pb2.CancelTaskResponse(task=desk.task(cancelled))

        response = await once_for_caller(
            desk.store, request, name, tasks_pb2.CancelTaskResponse, act
        )
        if response.task.state == tasks_pb2.TASK_STATE_CANCELLED:
            await desk.scheduler.cancel(name)
        return response

    async def WatchTask(
        self, request: tasks_pb2.WatchTaskRequest, context: Context
    ) -> AsyncIterator[tasks_pb2.WatchTaskResponse]:
        """Send the task's state at each change, until it ends."""
        desk, name = self._desk, self._desk.names.task(request.name)
        sent: tasks_pb2.WatchTaskResponse | None = None
        with desk.changes.watch((name,)) as changed:
            while True:
                changed.clear()
                record = await desk.store.task(name)
                last = await desk.store.last_round(name)
                response = tasks_pb2.WatchTaskResponse(
                    task=desk.task(record), round=round_to_wire(last) if last else None
                )
                if response != sent:
                    yield response
                    sent = response
                if record.state.ended and record.current is None:
                    return
                await asyncio.sleep(_WATCH_PAUSE_S)
                await changed.wait()
