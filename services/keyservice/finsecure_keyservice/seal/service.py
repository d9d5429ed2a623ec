"""The gRPC service of the seal: one while it is closed, one while it is open."""

# ruff: noqa: N802  (method names are those of the protos)

import asyncio
from typing import Any, TypeAlias

import grpc
from finsecure.keyservice.v1 import seal_pb2, seal_pb2_grpc
from finsecure_crypto.errors import FinSecureError, StateError, UnavailableError
from finsecure_crypto.key_seal import KeySeal
from finsecure_rpc.logs import get_logger
from finsecure_rpc.peer import current_address
from finsecure_rpc.server import Service

from finsecure_keyservice.backend import Backend
from finsecure_keyservice.decisions import NO_DECISION
from finsecure_keyservice.seal.unsealing import Unsealed, Unsealing
from finsecure_keyservice.store import Store

_log = get_logger(__name__)
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ClosedSeal(seal_pb2_grpc.SealServiceServicer):
    """Takes shares."""

    def __init__(self, unsealing: Unsealing) -> None:
        self._unsealing = unsealing

    async def GetSealStatus(
        self, request: seal_pb2.GetSealStatusRequest, context: Context
    ) -> seal_pb2.GetSealStatusResponse:
        """See the proto."""
        return seal_pb2.GetSealStatusResponse(status=self._status())

    async def Unseal(
        self, request: seal_pb2.UnsealRequest, context: Context
    ) -> seal_pb2.UnsealResponse:
        """See the proto."""
        self._unsealing.give(request.share, current_address())
        return seal_pb2.UnsealResponse(status=self._status())

    async def Seal(self, request: seal_pb2.SealRequest, context: Context) -> seal_pb2.SealResponse:
        """See the proto; who asks cannot be checked now, and need not be."""
        raise sealed_error()

    def _status(self) -> seal_pb2.SealStatus:
        unsealing = self._unsealing
        opening = unsealing.unsealed is not None
        status = _status(
            unsealing.seal, seal_pb2.SEAL_STATE_OPENING if opening else seal_pb2.SEAL_STATE_SEALED
        )
        status.shares_given = unsealing.given
        status.failure = "" if opening else unsealing.failure
        if unsealing.expire_time is not None:
            status.expire_time.FromDatetime(unsealing.expire_time)
        return status


class OpenSeal(seal_pb2_grpc.SealServiceServicer):
    """Seals again."""

    def __init__(self, backend: Backend, unsealed: Unsealed | None) -> None:
        self._backend = backend
        self._unsealed = unsealed
        self._running: set[asyncio.Task[seal_pb2.SealResponse]] = set()

    async def GetSealStatus(
        self, request: seal_pb2.GetSealStatusRequest, context: Context
    ) -> seal_pb2.GetSealStatusResponse:
        """See the proto."""
        return seal_pb2.GetSealStatusResponse(status=self._status())

    async def Unseal(
        self, request: seal_pb2.UnsealRequest, context: Context
    ) -> seal_pb2.UnsealResponse:
        """See the proto."""
        return seal_pb2.UnsealResponse(status=self._status())

    async def Seal(self, request: seal_pb2.SealRequest, context: Context) -> seal_pb2.SealResponse:
        """See the proto; neither a caller who hangs up stops it, nor a log that is full."""
        task = asyncio.create_task(self._seal(request))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _seal(self, request: seal_pb2.SealRequest) -> seal_pb2.SealResponse:
        unsealed, domain = self._unsealed, self._backend.enrolment.domain
        if unsealed is None:
            raise StateError(
                "SEAL_NOT_CONFIGURED",
                "this key service has no seal, so it could not be opened again: stop it instead, "
                "or give it one with `finsecure-keyservice reshare`",
            )
        seal = unsealed.files.seal
        response = seal_pb2.SealResponse(status=_status(seal, seal_pb2.SEAL_STATE_SEALED))
        decided = False

        def act(store: Store) -> seal_pb2.SealResponse:
            nonlocal decided
            store.trail.record(
                "service.seal", domain, sealed={"reason": request.reason}, set=seal.set_id
            )
            decided = True
            return response

        try:
            await self._backend.mutate(request, domain, seal_pb2.SealResponse, act)
            if not decided:  # the answer to an earlier call, and unsealed since
                await self._backend.decide("Seal", domain, act)
        except Exception as error:
            if isinstance(error, FinSecureError) and not isinstance(error, NO_DECISION):
                raise  # refused, and that is on record
            # The one act without its event: it only takes away, and an intruder may fill a disk.
            _log.exception("sealed, but the audit log does not say so: it cannot be written")
        unsealed.sealing.set()
        return response

    def _status(self) -> seal_pb2.SealStatus:
        if self._unsealed is None:
            return seal_pb2.SealStatus(state=seal_pb2.SEAL_STATE_NOT_CONFIGURED)
        return _status(self._unsealed.files.seal, seal_pb2.SEAL_STATE_UNSEALED)


def sealed_error() -> UnavailableError:
    """What a sealed service answers all that it does not do."""
    return UnavailableError(
        "SERVICE_SEALED",
        "The key service is sealed: its operators have to unseal it (`finsecure unseal`, after "
        "`finsecure seal-status`); try again later.",
    )


def service(servicer: ClosedSeal | OpenSeal) -> Service:
    """The service as a server takes it."""
    return seal_pb2_grpc.add_SealServiceServicer_to_server, servicer


def _status(seal: KeySeal, state: "seal_pb2.SealState.ValueType") -> seal_pb2.SealStatus:
    return seal_pb2.SealStatus(
        state=state,
        share_set=seal.set_id,
        threshold=seal.threshold,
        shares=len(seal.digests),
    )
