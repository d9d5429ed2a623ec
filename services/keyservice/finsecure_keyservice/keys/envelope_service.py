"""The gRPC service of envelope encryption."""

# ruff: noqa: N802  (method names are those of the protos)

from finsecure.keyservice.v1 import envelope_pb2 as pb
from finsecure.keyservice.v1 import envelope_pb2_grpc
from finsecure_crypto.secret import SecretBytes

from finsecure_keyservice.keys import envelope
from finsecure_keyservice.keys.desk import Context, KeyDesk
from finsecure_keyservice.keys.store import KeyStore


class EnvelopeService(envelope_pb2_grpc.EnvelopeServiceServicer):
    """Data keys in envelopes."""

    def __init__(self, desk: KeyDesk) -> None:
        self._desk = desk

    async def WrapDataKey(
        self, request: pb.WrapDataKeyRequest, context: Context
    ) -> pb.WrapDataKeyResponse:
        """See the proto."""
        self._desk.require_access(request.name)

        def act(store: KeyStore) -> pb.WrapDataKeyResponse:
            version, wrapped = envelope.wrap(
                store,
                self._desk.material,
                request.name,
                SecretBytes(request.data_key),
                request.associated_data,
            )
            return pb.WrapDataKeyResponse(version=version.name, wrapped_key=wrapped)

        return await self._desk.decisions.decide("WrapDataKey", request.name, act)

    async def UnwrapDataKey(
        self, request: pb.UnwrapDataKeyRequest, context: Context
    ) -> pb.UnwrapDataKeyResponse:
        """See the proto."""
        self._desk.require_access(request.name)

        def act(store: KeyStore) -> pb.UnwrapDataKeyResponse:
            data_key, stale = envelope.unwrap(
                store,
                self._desk.material,
                request.name,
                request.wrapped_key,
                request.associated_data,
            )
            return pb.UnwrapDataKeyResponse(data_key=data_key.expose(), stale=stale)

        return await self._desk.decisions.decide("UnwrapDataKey", request.name, act)
