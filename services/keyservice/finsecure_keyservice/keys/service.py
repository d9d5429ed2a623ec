"""The gRPC service that manages keys: convert, decide in one transaction, convert back."""

# ruff: noqa: N802  (method names are those of the protos)

import hashlib
from collections.abc import AsyncIterator

from finsecure.keyservice.v1 import keys_pb2 as pb
from finsecure.keyservice.v1 import keys_pb2_grpc
from finsecure_crypto.errors import InvalidArgumentError, StateError
from finsecure_rpc.paging import decode_token, page_of, page_size

from finsecure_keyservice.approvals import DangerousAct
from finsecure_keyservice.etags import revision
from finsecure_keyservice.keys import convert, importing, lookup, registry, versions
from finsecure_keyservice.keys.desk import Context, KeyDesk
from finsecure_keyservice.keys.records import KeyVersion
from finsecure_keyservice.keys.states import Step
from finsecure_keyservice.keys.store import KeyStore

_CHUNK_BYTES = 1 << 20


class KeyManagementService(keys_pb2_grpc.KeyManagementServiceServicer):
    """Rings, keys, versions."""

    def __init__(self, desk: KeyDesk) -> None:
        self._desk = desk
        self._decisions = desk.decisions
        self._clock = desk.decisions.auditor.clock

    async def CreateKeyRing(
        self, request: pb.CreateKeyRingRequest, context: Context
    ) -> pb.CreateKeyRingResponse:
        """See the proto."""
        name = request.key_ring.name

        def act(store: KeyStore) -> pb.CreateKeyRingResponse:
            record = registry.create_ring(store, name, self._clock())
            return pb.CreateKeyRingResponse(key_ring=convert.key_ring(record))

        return await self._decisions.mutate(request, name, pb.CreateKeyRingResponse, act)

    async def GetKeyRing(
        self, request: pb.GetKeyRingRequest, context: Context
    ) -> pb.GetKeyRingResponse:
        """See the proto."""
        self._desk.require_access(request.name)
        record = await self._decisions.read(lambda store: lookup.get_ring(store, request.name))
        return pb.GetKeyRingResponse(key_ring=convert.key_ring(record))

    async def ListKeyRings(
        self, request: pb.ListKeyRingsRequest, context: Context
    ) -> pb.ListKeyRingsResponse:
        """See the proto."""
        self._desk.require_access(request.parent)
        size = page_size(request.page_size)
        scope = f"ListKeyRings:{request.parent}"
        (behind,) = decode_token(request.page_token, scope, (str,)) or ("",)
        records = await self._decisions.read(
            lambda store: lookup.list_rings(store, request.parent, behind, size + 1)
        )
        found, token = page_of(records, size, scope, lambda record: (record.name,))
        page = [convert.key_ring(record) for record in found]
        return pb.ListKeyRingsResponse(key_rings=page, next_page_token=token)

    async def CreateCryptoKey(
        self, request: pb.CreateCryptoKeyRequest, context: Context
    ) -> pb.CreateCryptoKeyResponse:
        """See the proto."""
        wish = convert.key_wish(request.crypto_key)

        def act(store: KeyStore) -> pb.CreateCryptoKeyResponse:
            record = registry.create_key(store, wish, self._clock())
            return pb.CreateCryptoKeyResponse(crypto_key=convert.crypto_key(record))

        response = await self._decisions.mutate(request, wish.name, pb.CreateCryptoKeyResponse, act)
        self._desk.life.wake()
        return response

    async def GetCryptoKey(
        self, request: pb.GetCryptoKeyRequest, context: Context
    ) -> pb.GetCryptoKeyResponse:
        """See the proto."""
        self._desk.require_access(request.name)
        record = await self._decisions.read(lambda store: lookup.get_key(store, request.name))
        return pb.GetCryptoKeyResponse(crypto_key=convert.crypto_key(record))

    async def ListCryptoKeys(
        self, request: pb.ListCryptoKeysRequest, context: Context
    ) -> pb.ListCryptoKeysResponse:
        """See the proto."""
        self._desk.require_access(request.parent)
        size = page_size(request.page_size)
        scope = f"ListCryptoKeys:{request.parent}"
        (behind,) = decode_token(request.page_token, scope, (str,)) or ("",)
        records = await self._decisions.read(
            lambda store: lookup.list_keys(store, request.parent, behind, size + 1)
        )
        found, token = page_of(records, size, scope, lambda record: (record.name,))
        page = [convert.crypto_key(record) for record in found]
        return pb.ListCryptoKeysResponse(crypto_keys=page, next_page_token=token)

    async def UpdateCryptoKey(
        self, request: pb.UpdateCryptoKeyRequest, context: Context
    ) -> pb.UpdateCryptoKeyResponse:
        """See the proto."""
        if list(request.update_mask.paths) != ["rotation_period"]:
            raise InvalidArgumentError(
                "UPDATE_MASK", "update_mask has to name `rotation_period`; nothing else can change"
            )
        wanted = request.crypto_key

        def act(store: KeyStore) -> pb.UpdateCryptoKeyResponse:
            record = registry.set_rotation(
                store,
                wanted.name,
                convert.rotation_period(wanted),
                revision(wanted.etag),
                self._clock(),
            )
            return pb.UpdateCryptoKeyResponse(crypto_key=convert.crypto_key(record))

        return await self._decisions.mutate(request, wanted.name, pb.UpdateCryptoKeyResponse, act)

    async def CreateCryptoKeyVersion(
        self, request: pb.CreateCryptoKeyVersionRequest, context: Context
    ) -> pb.CreateCryptoKeyVersionResponse:
        """See the proto."""
        activate_time = convert.activate_time(request)

        def act(store: KeyStore) -> pb.CreateCryptoKeyVersionResponse:
            record = registry.rotate(
                store,
                request.parent,
                activate_time,
                revision(request.etag),
                self._clock(),
            )
            return pb.CreateCryptoKeyVersionResponse(crypto_key_version=_version(store, record))

        response = await self._decisions.mutate(
            request, request.parent, pb.CreateCryptoKeyVersionResponse, act
        )
        self._desk.life.wake()
        return response

    async def GetCryptoKeyVersion(
        self, request: pb.GetCryptoKeyVersionRequest, context: Context
    ) -> pb.GetCryptoKeyVersionResponse:
        """See the proto."""
        self._desk.require_access(request.name)
        version = await self._decisions.read(
            lambda store: _version(store, lookup.get_version(store, request.name))
        )
        return pb.GetCryptoKeyVersionResponse(crypto_key_version=version)

    async def ListCryptoKeyVersions(
        self, request: pb.ListCryptoKeyVersionsRequest, context: Context
    ) -> pb.ListCryptoKeyVersionsResponse:
        """See the proto."""
        self._desk.require_access(request.parent)
        size = page_size(request.page_size)
        scope = f"ListCryptoKeyVersions:{request.parent}"
        (behind,) = decode_token(request.page_token, scope, (int,)) or (0,)

        def act(store: KeyStore) -> tuple[list[pb.CryptoKeyVersion], str]:
            records = lookup.list_versions(store, request.parent, behind, size + 1)
            found, token = page_of(records, size, scope, lambda record: (record.number,))
            return [_version(store, record) for record in found], token

        page, token = await self._decisions.read(act)
        return pb.ListCryptoKeyVersionsResponse(crypto_key_versions=page, next_page_token=token)

    async def ChangeCryptoKeyVersion(
        self, request: pb.ChangeCryptoKeyVersionRequest, context: Context
    ) -> pb.ChangeCryptoKeyVersionResponse:
        """See the proto."""

        def act(store: KeyStore) -> pb.ChangeCryptoKeyVersionResponse:
            record = versions.change(
                store,
                request.name,
                convert.step(request.change),
                reason=request.reason,
                revision=revision(request.etag),
                now=self._clock(),
            )
            return pb.ChangeCryptoKeyVersionResponse(crypto_key_version=_version(store, record))

        return await self._decisions.mutate(
            request, request.name, pb.ChangeCryptoKeyVersionResponse, act
        )

    async def DestroyCryptoKeyVersion(
        self, request: pb.DestroyCryptoKeyVersionRequest, context: Context
    ) -> pb.DestroyCryptoKeyVersionResponse:
        """See the proto."""

        def act(store: KeyStore) -> pb.DestroyCryptoKeyVersionResponse:
            record = versions.change(
                store,
                request.name,
                Step.SCHEDULE_DESTRUCTION,
                reason=request.reason,
                revision=revision(request.etag),
                now=self._clock(),
            )
            return pb.DestroyCryptoKeyVersionResponse(crypto_key_version=_version(store, record))

        return await self._desk.gate.mutate(
            self._decisions,
            request,
            request.name,
            pb.DestroyCryptoKeyVersionResponse,
            act,
            DangerousAct("cryptoKeyVersions.destroy", f"destroy {request.name}: {request.reason}"),
        )

    async def DownloadPublicKey(
        self, request: pb.DownloadPublicKeyRequest, context: Context
    ) -> AsyncIterator[pb.DownloadPublicKeyResponse]:
        """See the proto."""
        self._desk.require_access(request.name)

        def act(store: KeyStore) -> tuple[pb.CryptoKeyVersion, bytes | None]:
            record = lookup.get_version(store, request.name)
            return _version(store, record), record.public_key

        version, public_key = await self._decisions.read(act)
        if public_key is None:
            raise StateError(
                "PUBLIC_KEY_MISSING",
                f"{request.name} has no public key: it is symmetric, or not made yet",
            )
        yield pb.DownloadPublicKeyResponse(crypto_key_version=version)
        for start in range(0, len(public_key), _CHUNK_BYTES):
            yield pb.DownloadPublicKeyResponse(chunk=public_key[start : start + _CHUNK_BYTES])

    async def CreateImportJob(
        self, request: pb.CreateImportJobRequest, context: Context
    ) -> pb.CreateImportJobResponse:
        """See the proto."""

        def act(store: KeyStore) -> pb.CreateImportJobResponse:
            job = importing.create_job(store, self._desk.material, request.parent, self._clock())
            return pb.CreateImportJobResponse(import_job=convert.import_job(job))

        return await self._decisions.mutate(
            request, request.parent, pb.CreateImportJobResponse, act
        )

    async def ImportCryptoKeyVersion(
        self, request: pb.ImportCryptoKeyVersionRequest, context: Context
    ) -> pb.ImportCryptoKeyVersionResponse:
        """See the proto."""

        def act(store: KeyStore) -> pb.ImportCryptoKeyVersionResponse:
            record = importing.import_version(
                store,
                self._desk.material,
                request.parent,
                request.import_job,
                request.wrapped_key,
                self._clock(),
            )
            return pb.ImportCryptoKeyVersionResponse(crypto_key_version=_version(store, record))

        # Whoever has a copy of the key signs whatever it likes, and the key is in use at once.
        fingerprint = hashlib.sha256(request.wrapped_key).hexdigest()
        return await self._desk.gate.mutate(
            self._decisions,
            request,
            request.parent,
            pb.ImportCryptoKeyVersionResponse,
            act,
            DangerousAct(
                "cryptoKeyVersions.import",
                f"bring a key into {request.parent}, which takes over at once: wrapped for "
                f"{request.import_job}, SHA-256 of the wrapped key {fingerprint}",
            ),
        )


def _version(store: KeyStore, record: KeyVersion) -> pb.CryptoKeyVersion:
    return convert.crypto_key_version(record, lookup.get_key(store, record.key).algorithm)
