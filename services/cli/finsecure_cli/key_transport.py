"""An operator's calls about encryption keys; answers come back as documents."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from finsecure.keyservice.v1 import (
    certificates_pb2,
    certificates_pb2_grpc,
    encryption_keys_pb2,
    encryption_keys_pb2_grpc,
)
from finsecure_crypto.certificates import RevocationList, Role
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.connection import Connection
from finsecure_rpc.encryption_keys import download_published
from finsecure_rpc.identity_store import IdentityStore

from finsecure_cli.convert import Document, document
from finsecure_cli.following import memory_of
from finsecure_cli.settings import OperatorSettings
from finsecure_cli.transport import PAGE, Services

_STUB = encryption_keys_pb2_grpc.EncryptionKeyServiceStub


async def list_keys(services: Services) -> list[Document]:
    """List the federation's encryption keys."""
    return await services.pages(
        lambda token: services.keys(
            _STUB,
            "ListEncryptionKeys",
            encryption_keys_pb2.ListEncryptionKeysRequest(
                parent=services.federation, page_size=PAGE, page_token=token
            ),
        ),
        "encryption_keys",
    )


async def get_key(services: Services, key: str) -> Document:
    """Read one key, by its id or its resource name."""
    request = encryption_keys_pb2.GetEncryptionKeyRequest(name=key_name(services.federation, key))
    answer = await services.keys(_STUB, "GetEncryptionKey", request)
    return document(answer.encryption_key)


async def set_key_state(services: Services, key: str, state: str, reason: str) -> Document:
    """Move a key to another state.

    Raises:
        InvalidArgumentError: STATE_UNKNOWN; the caller's.
    """
    try:
        value = encryption_keys_pb2.EncryptionKeyState.Value(
            f"ENCRYPTION_KEY_STATE_{state.upper()}"
        )
    except ValueError as error:
        raise InvalidArgumentError("STATE_UNKNOWN", f"{state} is no state of a key") from error
    request = encryption_keys_pb2.SetEncryptionKeyStateRequest(
        name=key_name(services.federation, key),
        state=value,
        reason=reason,
        request_id=str(uuid.uuid4()),
    )
    answer = await services.keys(_STUB, "SetEncryptionKeyState", request)
    return document(answer.encryption_key)


async def verify_key(settings: OperatorSettings, key: str) -> Document:
    """Check a key as whoever uses it does: trustees' signatures, certificates, audit log, digest.

    Returns:
        What was verified, by name, mode, digest, trustees and state.

    Raises:
        IntegrityError, AuthenticationError: the key must not be used.
        FinSecureError: what the key service answers.
    """
    identities = IdentityStore(settings.identity_dir)
    async with Connection(settings.keyservice, identities, Role.KEYSERVICE) as connection:
        name = key_name(f"federations/{settings.federation}", key)
        follower = LogFollower(connection, memory_of(settings))
        found = await download_published(connection, follower, name)
        answer = await connection.call(
            connection.stub(certificates_pb2_grpc.CertificateServiceStub).GetRevocationList,
            certificates_pb2.GetRevocationListRequest(),
        )
    identity = identities.current()
    revocations = RevocationList.parse(answer.crl, identity.anchors, datetime.now(UTC))
    domain = f"{settings.federation}.{identity.spiffe_id.trust_domain}"
    found.verify(domain, identity.anchors, revocations)
    return {
        "name": name,
        "mode": found.description.mode.value,
        "generation": found.description.generation.value,
        "digest": found.description.digest.hex(),
        "trustees": [found.trustees[holder] for holder in sorted(found.trustees)],
        "state": found.state.value,
    }


async def register_key(
    services: Services, key: encryption_keys_pb2.EncryptionKey, public_key: bytes
) -> Document:
    """Enter a key that all trustees have signed."""
    request = encryption_keys_pb2.RegisterEncryptionKeyRequest(
        encryption_key=key, public_key=public_key, request_id=str(uuid.uuid4())
    )
    answer = await services.keys(_STUB, "RegisterEncryptionKey", request)
    return document(answer.encryption_key)


async def renew_endorsements(
    services: Services, key: str, endorsements: Sequence[encryption_keys_pb2.KeyEndorsement]
) -> Document:
    """Bring new endorsements of a key."""
    request = encryption_keys_pb2.RenewEndorsementsRequest(
        name=key_name(services.federation, key),
        endorsements=endorsements,
        request_id=str(uuid.uuid4()),
    )
    answer = await services.keys(_STUB, "RenewEndorsements", request)
    return document(answer.encryption_key)


def key_name(federation: str, key: str) -> str:
    """Return the resource name of a key that is given by its id or its name."""
    return key if "/" in key else f"{federation}/encryptionKeys/{key}"
