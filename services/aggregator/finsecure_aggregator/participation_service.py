"""The RPCs of a client's side of secure aggregation."""
# ruff: noqa: N802 -- the methods' names are the wire contract's

from collections.abc import AsyncIterator
from typing import Any

from finsecure.aggregation.v1 import participation_pb2, participation_pb2_grpc
from finsecure_crypto.errors import PermissionDeniedError
from finsecure_rpc.peer import require_peer
from google.protobuf.message import Message as Proto

from finsecure_aggregator.desk import Desk
from finsecure_aggregator.records import RoundState
from finsecure_aggregator.upload_stream import first, heard_out, pieces
from finsecure_aggregator.wire.client_messages import serialised
from finsecure_aggregator.wire.instructions import InstructionWriter

Context = Any  # grpc.aio.ServicerContext, whatever its messages


class ParticipationService(participation_pb2_grpc.ParticipationServiceServicer):
    """A client's side of secure aggregation."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._participation = desk.participation
        self._instructions = InstructionWriter()

    async def Watch(
        self, request: participation_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[participation_pb2.WatchResponse]:
        """Send open instructions, then each new one."""
        tasks = [self._desk.names.task(name) for name in request.tasks]
        async for item in self._participation.watch(require_peer().id, tasks):
            yield self._instructions.write(item)

    async def AdvertiseKeys(
        self, request: participation_pb2.AdvertiseKeysRequest, context: Context
    ) -> participation_pb2.AdvertiseKeysResponse:
        """Take phase 1's message."""
        caller = require_peer().id
        if request.advertisement.client != caller:
            raise PermissionDeniedError(
                "CLIENT_MISMATCH",
                f"the message is from {request.advertisement.client}, the connection from {caller}",
            )
        await self._submit(RoundState.ADVERTISE_KEYS, request.round, request)
        return participation_pb2.AdvertiseKeysResponse()

    async def ShareKeys(
        self, request: participation_pb2.ShareKeysRequest, context: Context
    ) -> participation_pb2.ShareKeysResponse:
        """Take phase 2's message."""
        await self._submit(RoundState.SHARE_KEYS, request.round, request)
        return participation_pb2.ShareKeysResponse()

    async def SubmitInput(
        self,
        request_iterator: AsyncIterator[participation_pb2.SubmitInputRequest],
        context: Context,
    ) -> participation_pb2.SubmitInputResponse:
        """Take phase 3's vector, or some more of it."""
        async with heard_out(request_iterator):
            header = (await first(request_iterator, "header")).header
            key, client = self._desk.names.round(header.round), require_peer().id
            status = await self._participation.upload(
                key, client, serialised(header), pieces(request_iterator)
            )
        return participation_pb2.SubmitInputResponse(
            committed_bytes=status.committed_bytes, accepted=status.accepted
        )

    async def GetUploadStatus(
        self, request: participation_pb2.GetUploadStatusRequest, context: Context
    ) -> participation_pb2.GetUploadStatusResponse:
        """Say how much of the vector is on disk."""
        key = self._desk.names.round(request.round)
        status = await self._participation.upload_status(key, require_peer().id)
        return participation_pb2.GetUploadStatusResponse(
            committed_bytes=status.committed_bytes, accepted=status.accepted
        )

    async def ConfirmSurvivors(
        self, request: participation_pb2.ConfirmSurvivorsRequest, context: Context
    ) -> participation_pb2.ConfirmSurvivorsResponse:
        """Take phase 4's message."""
        await self._submit(RoundState.CONFIRM_SURVIVORS, request.round, request)
        return participation_pb2.ConfirmSurvivorsResponse()

    async def RevealShares(
        self, request: participation_pb2.RevealSharesRequest, context: Context
    ) -> participation_pb2.RevealSharesResponse:
        """Take phase 5's message."""
        await self._submit(RoundState.REVEAL_SHARES, request.round, request)
        return participation_pb2.RevealSharesResponse()

    async def DeclineRound(
        self, request: participation_pb2.DeclineRoundRequest, context: Context
    ) -> participation_pb2.DeclineRoundResponse:
        """Take a refusal."""
        key = self._desk.names.round(request.round)
        await self._participation.decline(key, require_peer().id, request.reason)
        return participation_pb2.DeclineRoundResponse()

    async def _submit(self, phase: RoundState, name: str, request: Proto) -> None:
        key = self._desk.names.round(name)
        await self._participation.submit(key, phase, require_peer().id, serialised(request))
