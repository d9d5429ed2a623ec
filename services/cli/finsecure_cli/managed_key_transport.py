"""An operator's calls about managed keys; answers come back as documents."""

import hashlib
import uuid
from datetime import timedelta
from typing import Any

from finsecure.keyservice.v1 import keys_pb2 as pb
from finsecure.keyservice.v1 import keys_pb2_grpc
from finsecure_crypto.errors import ConfigurationError, InvalidArgumentError
from finsecure_crypto.key_import import wrap_for_import
from finsecure_crypto.secret import SecretBytes
from google.protobuf.message import DecodeError

from finsecure_cli.convert import Document, document
from finsecure_cli.transport import PAGE, Services

_STUB = keys_pb2_grpc.KeyManagementServiceStub


def ring_name(services: Services, ring: str) -> str:
    """Resource name of a ring, by its id."""
    return f"{services.federation}/keyRings/{ring}"


def key_name(services: Services, key: str) -> str:
    """Resource name of a key, by `RING/KEY`.

    Raises:
        InvalidArgumentError: NAME_MALFORMED; the caller's.
    """
    ring, separator, name = key.partition("/")
    if not (ring and separator and name) or "/" in name:
        raise InvalidArgumentError("NAME_MALFORMED", f"{key!r} is no key: name it RING/KEY")
    return f"{ring_name(services, ring)}/cryptoKeys/{name}"


async def create_ring(services: Services, ring: str) -> Document:
    """Open a ring."""
    request = pb.CreateKeyRingRequest(
        key_ring=pb.KeyRing(name=ring_name(services, ring)), request_id=str(uuid.uuid4())
    )
    return document((await services.keys(_STUB, "CreateKeyRing", request)).key_ring)


async def create_key(
    services: Services, key: str, purpose: str, algorithm: str, rotation_days: int | None
) -> Document:
    """Create a key; its first version is made meanwhile."""
    wanted = pb.CryptoKey(
        name=key_name(services, key),
        purpose=pb.KeyPurpose.Value(f"KEY_PURPOSE_{purpose.upper()}"),
        algorithm=pb.KeyAlgorithm.Value(f"KEY_ALGORITHM_{algorithm.upper()}"),
    )
    if rotation_days is not None:
        wanted.rotation_period.FromTimedelta(timedelta(days=rotation_days))
    request = pb.CreateCryptoKeyRequest(crypto_key=wanted, request_id=str(uuid.uuid4()))
    return document((await services.keys(_STUB, "CreateCryptoKey", request)).crypto_key)


async def list_keys(services: Services) -> list[Document]:
    """List the keys of all rings of the federation."""
    rings = await services.pages(
        lambda token: services.keys(
            _STUB,
            "ListKeyRings",
            pb.ListKeyRingsRequest(parent=services.federation, page_size=PAGE, page_token=token),
        ),
        "key_rings",
    )
    found: list[Document] = []
    for ring in rings:
        found += await _list(services, "ListCryptoKeys", pb.ListCryptoKeysRequest, ring["name"])
    return found


async def list_versions(services: Services, key: str) -> list[Document]:
    """List the versions of a key, oldest first."""
    name = key_name(services, key)
    return await _list(services, "ListCryptoKeyVersions", pb.ListCryptoKeyVersionsRequest, name)


async def _list(services: Services, method: str, kind: Any, parent: str) -> list[Document]:
    field = "crypto_keys" if method == "ListCryptoKeys" else "crypto_key_versions"
    return await services.pages(
        lambda token: services.keys(
            _STUB, method, kind(parent=parent, page_size=PAGE, page_token=token)
        ),
        field,
    )


async def rotate(services: Services, key: str) -> Document:
    """Ask for a new version of a key."""
    request = pb.CreateCryptoKeyVersionRequest(
        parent=key_name(services, key), request_id=str(uuid.uuid4())
    )
    answer = await services.keys(_STUB, "CreateCryptoKeyVersion", request)
    return document(answer.crypto_key_version)


async def change(
    services: Services, key: str, version: int, change_name: str, reason: str
) -> Document:
    """Move a version to another state: disable, enable, deactivate, restore or compromise."""
    request = pb.ChangeCryptoKeyVersionRequest(
        name=_version_name(services, key, version),
        change=pb.CryptoKeyVersionChange.Value(f"CRYPTO_KEY_VERSION_CHANGE_{change_name.upper()}"),
        reason=reason,
        request_id=str(uuid.uuid4()),
    )
    answer = await services.keys(_STUB, "ChangeCryptoKeyVersion", request)
    return document(answer.crypto_key_version)


async def destroy(services: Services, key: str, version: int, reason: str) -> Document:
    """Schedule the destruction of a version."""
    request = pb.DestroyCryptoKeyVersionRequest(
        name=_version_name(services, key, version), reason=reason, request_id=str(uuid.uuid4())
    )
    answer = await services.keys(_STUB, "DestroyCryptoKeyVersion", request)
    return document(answer.crypto_key_version)


async def wrap_key(services: Services, key: str, material: SecretBytes) -> bytes:
    """Encrypt a key for the key service, as the request that `import_key` sends; no secret."""
    name = key_name(services, key)
    ring = name.rpartition("/cryptoKeys/")[0]
    made = await services.keys(
        _STUB,
        "CreateImportJob",
        pb.CreateImportJobRequest(parent=ring, request_id=str(uuid.uuid4())),
    )
    job = made.import_job
    request = pb.ImportCryptoKeyVersionRequest(
        parent=name,
        import_job=job.name,
        wrapped_key=wrap_for_import(material, job.name, job.public_key, name),
        request_id=str(uuid.uuid4()),
    )
    return request.SerializeToString(deterministic=True)


def wrapped_digest(wrapped: bytes) -> str:
    """SHA-256 of what `wrap_key` encrypted, as an officer who is asked to agree sees it.

    Raises:
        ConfigurationError: WRAPPED_KEY_MALFORMED.
    """
    return hashlib.sha256(_import_request(wrapped).wrapped_key).hexdigest()


async def import_key(services: Services, wrapped: bytes) -> Document:
    """Bring a wrapped key in as a new version; repeated as it is, it is the same act.

    Raises:
        ConfigurationError: WRAPPED_KEY_MALFORMED.
    """
    answer = await services.keys(_STUB, "ImportCryptoKeyVersion", _import_request(wrapped))
    return document(answer.crypto_key_version)


def _import_request(wrapped: bytes) -> pb.ImportCryptoKeyVersionRequest:
    try:
        return pb.ImportCryptoKeyVersionRequest.FromString(wrapped)
    except DecodeError as error:
        raise ConfigurationError(
            "WRAPPED_KEY_MALFORMED",
            "this is no wrapped key; make one by `finsecure keys wrap`",
        ) from error


async def public_key(services: Services, key: str, version: int) -> bytes:
    """Download the public key of a version, SubjectPublicKeyInfo in DER."""
    request = pb.DownloadPublicKeyRequest(name=_version_name(services, key, version))
    parts = services.key_stream(_STUB, "DownloadPublicKey", request)
    return b"".join([part.chunk async for part in parts])


def _version_name(services: Services, key: str, version: int) -> str:
    return f"{key_name(services, key)}/cryptoKeyVersions/{version}"
