"""The gRPC service of the register of homomorphic keys."""

# ruff: noqa: N802  (method names are those of the protos)

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

import grpc
from finsecure.keyservice.v1 import encryption_keys_pb2, encryption_keys_pb2_grpc
from finsecure_crypto.homomorphic.key_record import Endorsement, KeyState
from finsecure_rpc.paging import decode_token, page_of, page_size

from finsecure_keyservice import convert, encryption_keys, members
from finsecure_keyservice.approvals import DangerousAct
from finsecure_keyservice.backend import Backend
from finsecure_keyservice.encryption_key_store import EncryptionKeyRecord
from finsecure_keyservice.federations import get_federation
from finsecure_keyservice.own_federation import require_own_federation
from finsecure_keyservice.store import Store

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_CHUNK_BYTES = 1 << 20


class EncryptionKeyService(encryption_keys_pb2_grpc.EncryptionKeyServiceServicer):
    """Public homomorphic keys."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._domain = backend.enrolment.domain

    async def RegisterEncryptionKey(
        self, request: encryption_keys_pb2.RegisterEncryptionKeyRequest, context: Context
    ) -> encryption_keys_pb2.RegisterEncryptionKeyResponse:
        """See the proto."""
        description = convert.key_description(request.encryption_key)
        endorsements = convert.endorsements(request.encryption_key.endorsements)

        def act(store: Store) -> encryption_keys_pb2.RegisterEncryptionKeyResponse:
            parent = encryption_keys.parent_of(description.name)
            get_federation(store, parent)
            _require_enrolled(store, parent, endorsements)
            now = self._backend.clock()
            encryption_keys.verify(
                description,
                endorsements,
                request.public_key,
                self._backend.feed.anchors(),
                self._backend.feed.current(),
                now,
            )
            record = encryption_keys.register(
                store.encryption_keys, description, endorsements, request.public_key, now
            )
            return encryption_keys_pb2.RegisterEncryptionKeyResponse(
                encryption_key=convert.encryption_key(record)
            )

        return await self._backend.mutate(
            request, description.name, encryption_keys_pb2.RegisterEncryptionKeyResponse, act
        )

    async def GetEncryptionKey(
        self, request: encryption_keys_pb2.GetEncryptionKeyRequest, context: Context
    ) -> encryption_keys_pb2.GetEncryptionKeyResponse:
        """See the proto."""
        record = await self._record(request.name)
        return encryption_keys_pb2.GetEncryptionKeyResponse(
            encryption_key=convert.encryption_key(record)
        )

    async def ListEncryptionKeys(
        self, request: encryption_keys_pb2.ListEncryptionKeysRequest, context: Context
    ) -> encryption_keys_pb2.ListEncryptionKeysResponse:
        """See the proto."""
        require_own_federation(request.parent, self._domain)
        size = page_size(request.page_size)
        scope = f"ListEncryptionKeys:{request.parent}"
        (after,) = decode_token(request.page_token, scope, (str,)) or ("",)
        records = await self._backend.read(
            lambda store: store.encryption_keys.page(request.parent, after, size + 1)
        )
        found, token = page_of(records, size, scope, lambda record: (record.description.name,))
        page = [convert.encryption_key(record) for record in found]
        return encryption_keys_pb2.ListEncryptionKeysResponse(
            encryption_keys=page, next_page_token=token
        )

    async def DownloadEncryptionKey(
        self, request: encryption_keys_pb2.DownloadEncryptionKeyRequest, context: Context
    ) -> AsyncIterator[encryption_keys_pb2.DownloadEncryptionKeyResponse]:
        """See the proto."""
        record = await self._record(request.name)
        content = await self._backend.read(
            lambda store: store.encryption_keys.public_key(request.name)
        )
        yield encryption_keys_pb2.DownloadEncryptionKeyResponse(
            encryption_key=convert.encryption_key(record)
        )
        for offset in range(0, len(content), _CHUNK_BYTES):
            yield encryption_keys_pb2.DownloadEncryptionKeyResponse(
                chunk=encryption_keys_pb2.KeyChunk(
                    offset=offset, content=content[offset : offset + _CHUNK_BYTES]
                )
            )

    async def SetEncryptionKeyState(
        self, request: encryption_keys_pb2.SetEncryptionKeyStateRequest, context: Context
    ) -> encryption_keys_pb2.SetEncryptionKeyStateResponse:
        """See the proto."""
        state = convert.key_state(request.state)

        def act(store: Store) -> encryption_keys_pb2.SetEncryptionKeyStateResponse:
            record = encryption_keys.set_state(
                store.encryption_keys, request.name, state, request.reason
            )
            return encryption_keys_pb2.SetEncryptionKeyStateResponse(
                encryption_key=convert.encryption_key(record)
            )

        return await self._backend.mutate(
            request,
            request.name,
            encryption_keys_pb2.SetEncryptionKeyStateResponse,
            act,
            dangerous=_destruction(request.name, state, request.reason),
        )

    async def RenewEndorsements(
        self, request: encryption_keys_pb2.RenewEndorsementsRequest, context: Context
    ) -> encryption_keys_pb2.RenewEndorsementsResponse:
        """See the proto."""
        endorsements = convert.endorsements(request.endorsements)

        def act(store: Store) -> encryption_keys_pb2.RenewEndorsementsResponse:
            keys, now = store.encryption_keys, self._backend.clock()
            parent = encryption_keys.parent_of(request.name)
            _require_enrolled(store, parent, endorsements)
            believed = self._backend.feed.believed()
            encryption_keys.verify(
                encryption_keys.get(keys, request.name).description,
                endorsements,
                keys.public_key(request.name),
                believed.anchors,
                self._backend.feed.current(),
                now,
            )
            encryption_keys.require_lasting(endorsements, believed.anchors, believed.tainted, now)
            record = encryption_keys.renew_endorsements(keys, request.name, endorsements, now)
            return encryption_keys_pb2.RenewEndorsementsResponse(
                encryption_key=convert.encryption_key(record)
            )

        return await self._backend.mutate(
            request, request.name, encryption_keys_pb2.RenewEndorsementsResponse, act
        )

    async def _record(self, name: str) -> EncryptionKeyRecord:
        require_own_federation(encryption_keys.parent_of(name), self._domain)
        return await self._backend.read(
            lambda store: encryption_keys.get(store.encryption_keys, name)
        )


def _require_enrolled(store: Store, parent: str, endorsements: Sequence[Endorsement]) -> None:
    """Let a key name trustees alone that are enrolled, active members."""
    for each in endorsements:
        members.require_enrolled(store, f"{parent}/trustees/{each.trustee}")


def _destruction(name: str, state: KeyState, reason: str) -> DangerousAct | None:
    """What destroying a key is: nothing that it encrypted is ever opened again.

    That a key is compromised may be said by one person, at once.
    """
    if state is not KeyState.DESTROYED:
        return None
    return DangerousAct("encryptionKeys.destroy", f"destroy {name} for good: {reason}")
