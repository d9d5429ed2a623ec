"""Encryption keys in the register of a key service: signed by trustees, moved, destroyed by two."""

from collections.abc import Sequence

from finsecure.keyservice.v1 import approvals_pb2 as approvals
from finsecure.keyservice.v1 import approvals_pb2_grpc as approvals_grpc
from finsecure.keyservice.v1 import encryption_keys_pb2 as keys
from finsecure.keyservice.v1 import encryption_keys_pb2_grpc as keys_grpc
from finsecure_crypto.errors import FinSecureError
from finsecure_crypto.homomorphic.key_record import Generation, KeyDescription
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.scheme import key_digest
from finsecure_rpc.connection import Connection
from finsecure_rpc.identity_store import Identity, IdentityStore

from tests.support.keyservice_deployment import LENDING, Deployment, new_id

NAME = f"{LENDING}/encryptionKeys/first"
PUBLIC = bytes(range(256)) * 5000  # of more than one chunk; the key service does not parse it
TRUSTEES = ("east", "north", "west")


async def trustees(keyservice: Deployment, names: Sequence[str] = TRUSTEES) -> list[Identity]:
    enrolled: list[IdentityStore] = []
    for name in names:
        member = f"{LENDING}/trustees/{name}"
        enrolled.append(await keyservice.enrol(member, await keyservice.create(member)))
    return [store.current() for store in enrolled]


def registration(
    signers: list[Identity], *, name: str = NAME, public: bytes = PUBLIC, signed: bytes = PUBLIC
) -> keys.RegisterEncryptionKeyRequest:
    """A request to register a key, signed over `signed`."""
    made = KeyDescription(
        name, Mode.BGV, Generation.DISTRIBUTED, 3, 2, key_digest(Mode.BGV, signed)
    )
    endorsements = [
        keys.KeyEndorsement(
            trustee=identity.spiffe_id.id,
            holder=holder,
            signature=identity.signing_key.sign(*made.endorsement(holder)),
            certificate=identity.signing_certificate,
        )
        for holder, identity in enumerate(signers, 1)
    ]
    key = keys.EncryptionKey(
        name=name,
        mode=keys.ENCRYPTION_MODE_BGV,
        generation=keys.KEY_GENERATION_DISTRIBUTED,
        holders=3,
        threshold=2,
        digest=key_digest(Mode.BGV, public),
        size_bytes=len(public),
        endorsements=endorsements,
    )
    return keys.RegisterEncryptionKeyRequest(
        encryption_key=key, public_key=public, request_id=new_id()
    )


async def register(
    connection: Connection, request: keys.RegisterEncryptionKeyRequest
) -> keys.EncryptionKey:
    stub = connection.stub(keys_grpc.EncryptionKeyServiceStub)
    response = await connection.call(stub.RegisterEncryptionKey, request)
    return response.encryption_key


async def move(by: Connection, state: keys.EncryptionKeyState.ValueType) -> keys.EncryptionKey:
    response = await by.call(
        by.stub(keys_grpc.EncryptionKeyServiceStub).SetEncryptionKeyState,
        keys.SetEncryptionKeyStateRequest(
            name=NAME, state=state, reason="a test", request_id=new_id()
        ),
    )
    return response.encryption_key


async def approve(officer: Connection) -> None:
    """Agree to the one proposal that there is."""
    stub = officer.stub(approvals_grpc.ApprovalServiceStub)
    listed = await officer.call(stub.ListProposals, approvals.ListProposalsRequest())
    request = approvals.ApproveProposalRequest(name=listed.proposals[0].name, request_id=new_id())
    await officer.call(stub.ApproveProposal, request)


async def destroy(keyservice: Deployment) -> None:
    """Let two officers destroy the key."""
    carol, dave = await keyservice.officer("carol"), await keyservice.officer("dave")
    try:
        await move(carol, keys.ENCRYPTION_KEY_STATE_DESTROYED)
    except FinSecureError as error:
        if error.code != "APPROVAL_REQUIRED":
            raise
    await approve(dave)
    await move(carol, keys.ENCRYPTION_KEY_STATE_DESTROYED)
