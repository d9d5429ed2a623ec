"""The gRPC service that signs statements about models."""

# ruff: noqa: N802  (method names are those of the protos)

from finsecure.keyservice.v1 import model_signing_pb2 as pb
from finsecure.keyservice.v1 import model_signing_pb2_grpc
from finsecure_rpc.model_statements import statement_from_wire, statement_to_wire

from finsecure_keyservice.keys import model_signing
from finsecure_keyservice.keys.desk import Context, KeyDesk
from finsecure_keyservice.keys.store import KeyStore


class ModelSigningService(model_signing_pb2_grpc.ModelSigningServiceServicer):
    """Signed statements about models."""

    def __init__(self, desk: KeyDesk) -> None:
        self._desk = desk

    async def SignModel(
        self, request: pb.SignModelRequest, context: Context
    ) -> pb.SignModelResponse:
        """See the proto."""
        self._desk.require_access(request.key)
        statement = statement_from_wire(request.statement)
        now = self._desk.decisions.auditor.clock()

        def act(store: KeyStore) -> pb.SignModelResponse:
            envelope, version = model_signing.sign_model(
                store, self._desk.material, request.key, statement, now
            )
            return pb.SignModelResponse(envelope=envelope.encode(), crypto_key_version=version.name)

        return await self._desk.decisions.decide("SignModel", statement.version.name, act)

    async def VerifyModel(
        self, request: pb.VerifyModelRequest, context: Context
    ) -> pb.VerifyModelResponse:
        """See the proto."""
        self._desk.require_access(request.key)
        statement, version = await self._desk.decisions.read(
            lambda store: model_signing.verify_model(store, request.key, request.envelope)
        )
        return pb.VerifyModelResponse(
            statement=statement_to_wire(statement), crypto_key_version=version.name
        )
