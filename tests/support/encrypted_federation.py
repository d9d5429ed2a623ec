"""A federation whose clients encrypt: a real aggregator process, and real trustees in this one.

>>> async with encrypted_federation(Federation(tmp_path)) as trustees:
...     await federation.create_task("credit", encrypted_spec())
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from finsecure.aggregation.v1 import tasks_pb2
from finsecure.keyservice.v1 import (
    encryption_keys_pb2,
    encryption_keys_pb2_grpc,
)
from finsecure_crypto.homomorphic.key_record import Generation, KeyDescription
from finsecure_crypto.homomorphic.mode import Mode
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.federation import Federation, task_spec
from tests.support.published import PublicLog
from tests.support.trustees import KEY_NAME, Trustee, key, make_trustee, served

METHOD = "/finsecure.keyservice.v1.EncryptionKeyService/DownloadEncryptionKey"


class KeyRegister(encryption_keys_pb2_grpc.EncryptionKeyServiceServicer):
    """Hands out the one key of all tests, endorsed by the trustees; a test may bend it."""

    def __init__(self, trustees: Sequence[Trustee], log: PublicLog) -> None:
        public = key()
        self.trustees = trustees
        log.publish("encryption-key.register", KEY_NAME, public.digest())
        description = KeyDescription(
            KEY_NAME, Mode.PAILLIER, Generation.DEALER, 3, 2, public.digest()
        )
        registered = Timestamp()
        registered.FromDatetime(datetime.now(UTC))
        self.content = public.serialise()
        self.message = encryption_keys_pb2.EncryptionKey(
            name=KEY_NAME,
            mode=encryption_keys_pb2.ENCRYPTION_MODE_PAILLIER,
            generation=encryption_keys_pb2.KEY_GENERATION_DEALER,
            holders=3,
            threshold=2,
            digest=public.digest(),
            size_bytes=len(self.content),
            state=encryption_keys_pb2.ENCRYPTION_KEY_STATE_ENABLED,
            create_time=registered,
        )
        for trustee in trustees:
            identity = trustee.identities.current()
            self.message.endorsements.add(
                trustee=trustee.id,
                holder=trustee.holder,
                signature=identity.signing_key.sign(*description.endorsement(trustee.holder)),
                certificate=identity.signing_certificate,
            )

    async def DownloadEncryptionKey(  # noqa: N802
        self, request: encryption_keys_pb2.DownloadEncryptionKeyRequest, context: Any
    ) -> AsyncIterator[encryption_keys_pb2.DownloadEncryptionKeyResponse]:
        yield encryption_keys_pb2.DownloadEncryptionKeyResponse(encryption_key=self.message)
        yield encryption_keys_pb2.DownloadEncryptionKeyResponse(
            chunk=encryption_keys_pb2.KeyChunk(offset=0, content=self.content)
        )


def encrypted_spec(**keywords: Any) -> tasks_pb2.TaskSpec:
    """A small valid task whose clients encrypt with Paillier."""
    spec = task_spec(**keywords)
    spec.security.CopyFrom(
        tasks_pb2.SecuritySpec(protection=tasks_pb2.PROTECTION_PAILLIER, encryption_key=KEY_NAME)
    )
    spec.deadlines.CopyFrom(
        tasks_pb2.DeadlineSpec(
            submit_input=spec.deadlines.submit_input, opening=Duration(seconds=60)
        )
    )
    return spec


@asynccontextmanager
async def encrypted_federation(
    federation: Federation, *, absent: Sequence[int] = ()
) -> AsyncIterator[KeyRegister]:
    """Run a federation with three trustees, some of which may be down from the beginning."""
    async with AsyncExitStack() as stack:
        trustees = [
            make_trustee(federation.folder / f"trustee-{holder}", federation.pki, holder)
            for holder in (1, 2, 3)
        ]
        for trustee in trustees:
            stack.callback(trustee.database.close)
            trustee.hold()
            address = "127.0.0.1:9"  # nobody listens on the discard port
            if trustee.holder not in absent:
                address = await stack.enter_async_context(served(trustee))
            federation.extra_config += (
                f'\n[[trustees]]\nid = "{trustee.id}"\naddress = "{address}"\n'
            )
        register = KeyRegister(trustees, federation.log_of_events)
        federation.extra_services[METHOD] = (
            encryption_keys_pb2_grpc.add_EncryptionKeyServiceServicer_to_server,
            register,
        )
        await stack.enter_async_context(federation)
        yield register
