"""Encryption keys as the key service hands them out, verified before anybody uses them.

The key service is only the register. Who holds the shares of a key is said by its trustees, whose
signatures over the key are checked here against the certificates of the federation's authority.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from finsecure.keyservice.v1 import encryption_keys_pb2, encryption_keys_pb2_grpc
from finsecure_crypto.certificates import (
    RevocationList,
    Role,
    SpiffeId,
    TrustAnchors,
    verify_member,
)
from finsecure_crypto.errors import IntegrityError, NotFoundError
from finsecure_crypto.homomorphic.key_record import (
    Endorsement,
    KeyDescription,
    KeyState,
    verify_endorsements,
)
from finsecure_crypto.homomorphic.scheme import key_digest

from finsecure_rpc.audit import LogFollower
from finsecure_rpc.connection import Connection
from finsecure_rpc.encryption_key_terms import GENERATIONS, MODES, STATES
from finsecure_rpc.validation import check_message

_DOWNLOAD_S = 60.0


@dataclass(frozen=True)
class RegisteredKey:
    """An encryption key as the key service delivered it.

    Attributes:
        description: what the trustees have signed.
        endorsements: their signatures.
        state: where the key stands.
        endorsed: when the endorsements were entered, aware UTC; the trustees' certificates count as
            of then.
        public_key: the serialised key, whose digest is the description's.
    """

    description: KeyDescription
    endorsements: Sequence[Endorsement]
    state: KeyState
    endorsed: datetime
    public_key: bytes = field(repr=False)

    @property
    def trustees(self) -> dict[int, str]:
        """Ids of the trustees by number of their share."""
        return {each.holder: each.trustee for each in self.endorsements}

    def verify(self, trust_domain: str, anchors: TrustAnchors, revocations: RevocationList) -> None:
        """Check that each holder is a trustee of the domain and has signed this key.

        Raises:
            IntegrityError: KEY_NOT_ENDORSED; the key must not be used.
            AuthenticationError: a trustee's certificate does not hold, or was revoked since.
        """

        def public_key_of(trustee: str, certificate: bytes) -> bytes:
            member = SpiffeId(trust_domain, Role.TRUSTEE, trustee)
            return verify_member(certificate, anchors, revocations, self.endorsed, member)

        verify_endorsements(self.description, self.endorsements, public_key_of)


async def download(connection: Connection, name: str) -> RegisteredKey:
    """Read a key from the key service.

    Raises:
        NotFoundError: there is none of that name.
        IntegrityError: KEY_DIGEST_MISMATCH or KEY_DESCRIPTION_INVALID; the key service's fault.
        FinSecureError: what the key service answers, or that it cannot be reached.
    """
    stub = connection.stub(encryption_keys_pb2_grpc.EncryptionKeyServiceStub)
    request = encryption_keys_pb2.DownloadEncryptionKeyRequest(name=name)
    described: encryption_keys_pb2.EncryptionKey | None = None
    content = bytearray()
    async for response in connection.stream(
        stub.DownloadEncryptionKey, request, deadline_s=_DOWNLOAD_S
    ):
        if described is None:
            described = response.encryption_key
            check_message(described)
        elif response.chunk.offset != len(content) or (
            len(content) + len(response.chunk.content) > described.size_bytes
        ):
            raise _invalid(name, "its pieces do not follow each other")
        else:
            content += response.chunk.content
    if described is None or described.name != name:
        raise _invalid(name, "another key was described")
    key = _registered(described, bytes(content))
    if key_digest(key.description.mode, key.public_key) != key.description.digest:
        raise IntegrityError(
            "KEY_DIGEST_MISMATCH",
            f"the public key that was delivered is not {name} as the trustees signed it; do not "
            "use it",
        )
    return key


async def download_published(
    connection: Connection, follower: LogFollower, name: str
) -> RegisteredKey:
    """Read a key from the key service, and demand that its registration is in the audit log.

    So nobody is given another key than everybody else without leaving a trace.

    Raises:
        NotFoundError: there is none of that name.
        IntegrityError: KEY_NOT_PUBLISHED for one that the log has not, which must not be used; or
            what `download` and `LogFollower.verify_publication` refuse.
        FinSecureError: what the key service answers, or that it cannot be reached.
    """
    key = await download(connection, name)
    try:
        await follower.verify_publication(name, key.description.digest)
    except NotFoundError as error:
        raise IntegrityError(
            "KEY_NOT_PUBLISHED",
            f"the registration of {name} is not in the audit log; do not use the key, and ask the "
            "operator of the key service",
        ) from error
    return key


def _registered(message: encryption_keys_pb2.EncryptionKey, public_key: bytes) -> RegisteredKey:
    description = KeyDescription(
        name=message.name,
        mode=MODES[message.mode],
        generation=GENERATIONS[message.generation],
        holders=message.holders,
        threshold=message.threshold,
        digest=message.digest,
    )
    state = STATES.get(message.state)
    if state is None or not message.HasField("create_time"):
        raise _invalid(message.name, "it has no state or no time")
    endorsed = message.endorse_time if message.HasField("endorse_time") else message.create_time
    return RegisteredKey(
        description,
        [
            Endorsement(each.trustee, each.holder, each.signature, each.certificate)
            for each in message.endorsements
        ],
        state,
        endorsed.ToDatetime(UTC),
        public_key,
    )


def _invalid(name: str, why: str) -> IntegrityError:
    return IntegrityError(
        "KEY_DESCRIPTION_INVALID", f"the key service did not deliver {name}: {why}"
    )
