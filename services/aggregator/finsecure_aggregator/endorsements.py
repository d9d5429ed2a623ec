"""Statements about model versions, signed by the key service with a key that people manage.

A version is on disk before a statement about it is signed, so it cannot turn out differently
afterwards: for one model there is one statement, ever.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from finsecure.keyservice.v1 import model_signing_pb2_grpc
from finsecure_crypto.errors import FinSecureError
from finsecure_rpc.connection import Connection
from finsecure_rpc.logs import get_logger
from sqlalchemy import update

from finsecure_aggregator import schema
from finsecure_aggregator.plan import Plan
from finsecure_aggregator.records import ModelRecord
from finsecure_aggregator.store import Store
from finsecure_aggregator.wire.models import sign_request

_log = get_logger(__name__)

SignModel = Callable[[Plan, ModelRecord], Awaitable[bytes]]
"""Returns the envelope of a signed statement about a version."""


class Endorsements:
    """Has versions signed, if there is a key to sign with.

    Args:
        store: where envelopes are kept.
        sign: asks for a signature; None where no key is configured.
    """

    def __init__(self, store: Store, sign: SignModel | None) -> None:
        self._store = store
        self._sign = sign

    async def ensure(self, plan: Plan, record: ModelRecord) -> ModelRecord:
        """Have a version signed that is not yet.

        Raises:
            UnavailableError: the key service cannot be reached.
            StateError, NotFoundError, PermissionDeniedError: the key cannot sign; its owner's.
        """
        return record if record.envelope else await self.renew(plan, record)

    async def attempt(self, plan: Plan, record: ModelRecord) -> None:
        """As `ensure`, but a failure is logged: it is tried again before the version is used."""
        try:
            await self.ensure(plan, record)
        except FinSecureError as error:
            _log.warning("model_not_endorsed_yet", model=record.name, error=str(error))

    async def renew(self, plan: Plan, record: ModelRecord) -> ModelRecord:
        """Have a version signed anew, with what is the key's primary version now.

        Raises:
            As `ensure`.
        """
        if self._sign is None:
            return record
        envelope = await self._sign(plan, record)
        table = schema.models
        place = (table.c.task == record.task) & (table.c.version == record.version)
        await self._store.transact(
            lambda c: c.execute(update(table).where(place).values(envelope=envelope))
        )
        _log.info("model_endorsed", model=record.name)
        return replace(record, envelope=envelope)


def key_service_signs(connection: Connection, key: str) -> SignModel:
    """Sign with a key of the key service.

    Args:
        connection: to the key service, as the aggregator.
        key: resource name of the key.
    """

    async def sign(plan: Plan, record: ModelRecord) -> bytes:
        stub = connection.stub(model_signing_pb2_grpc.ModelSigningServiceStub)
        answer = await connection.call(stub.SignModel, sign_request(key, plan, record))
        envelope: bytes = answer.envelope
        return envelope

    return sign
