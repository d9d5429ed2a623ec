"""The register of encryption keys: all trustees have signed, members read, states move."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from finsecure.keyservice.v1 import approvals_pb2 as approvals
from finsecure.keyservice.v1 import approvals_pb2_grpc as approvals_grpc
from finsecure.keyservice.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    certificates_pb2,
    certificates_pb2_grpc,
)
from finsecure.keyservice.v1 import encryption_keys_pb2 as keys
from finsecure.keyservice.v1 import encryption_keys_pb2_grpc as keys_grpc
from finsecure_crypto.audit_event import Event
from finsecure_crypto.certificates import RevocationList
from finsecure_crypto.errors import FinSecureError, IntegrityError
from finsecure_crypto.homomorphic.key_record import Generation, KeyDescription
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.scheme import key_digest
from finsecure_keyservice.schema import AUDIT
from finsecure_rpc.audit import LogFollower, LogMemory
from finsecure_rpc.connection import Connection
from finsecure_rpc.database import open_database
from finsecure_rpc.encryption_keys import download_published
from finsecure_rpc.identity_store import Identity, IdentityStore
from sqlalchemy import update

from tests.support.keyservice_deployment import BANK, LENDING, Deployment, new_id

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


async def refusal(connection: Connection, request: keys.RegisterEncryptionKeyRequest) -> str:
    with pytest.raises(FinSecureError) as caught:
        await register(connection, request)
    return caught.value.code


async def test_what_all_trustees_signed_is_registered_read_and_proven(
    keyservice: Deployment,
) -> None:
    request = registration(await trustees(keyservice))
    made = await register(keyservice.operator, request)
    assert made.state == keys.ENCRYPTION_KEY_STATE_ENABLED
    assert made == await register(keyservice.operator, request)  # the same request id
    bank = await keyservice.member(BANK)
    stub = bank.stub(keys_grpc.EncryptionKeyServiceStub)
    read = await bank.call(stub.GetEncryptionKey, keys.GetEncryptionKeyRequest(name=NAME))
    assert read.encryption_key == made
    content = b""
    async for response in bank.stream(
        stub.DownloadEncryptionKey, keys.DownloadEncryptionKeyRequest(name=NAME), deadline_s=20
    ):
        assert response.chunk.offset == len(content)
        content += response.chunk.content
    assert content == PUBLIC
    # The registration is in the log, with the digest, for every member to see.
    proof = await bank.call(
        bank.stub(audit_pb2_grpc.AuditServiceStub).ProvePublication,
        audit_pb2.ProvePublicationRequest(subject=NAME, sha256=made.digest),
    )
    event = Event.parse(proof.event.leaf)
    assert (event.action, event.subject) == ("encryption-key.register", NAME)
    assert event.details["trustees"] == "east,north,west"


async def test_a_key_is_used_only_if_its_registration_is_in_the_log(
    keyservice: Deployment,
) -> None:
    await register(keyservice.operator, registration(await trustees(keyservice)))
    bank = await keyservice.member(BANK)
    follower = LogFollower(bank, LogMemory(keyservice.folder / "memory.json"))
    key = await download_published(bank, follower, NAME)
    assert key.public_key == PUBLIC
    identity = IdentityStore(keyservice.folder / "members" / BANK).current()
    crl = await bank.call(
        bank.stub(certificates_pb2_grpc.CertificateServiceStub).GetRevocationList,
        certificates_pb2.GetRevocationListRequest(),
    )
    revocations = RevocationList.parse(crl.crl, identity.anchors, datetime.now(UTC))
    key.verify(identity.spiffe_id.trust_domain, identity.anchors, revocations)
    database = open_database(keyservice.configuration.database)
    database.run_sync(lambda c: c.execute(update(AUDIT.events).values(published=None)))
    database.close()
    with pytest.raises(IntegrityError) as caught:
        await download_published(bank, follower, NAME)
    assert caught.value.code == "KEY_NOT_PUBLISHED"


async def test_keys_are_listed_page_by_page(keyservice: Deployment) -> None:
    signers = await trustees(keyservice)
    names = [f"{LENDING}/encryptionKeys/key-{letter}" for letter in "abc"]
    for name in reversed(names):
        await register(keyservice.operator, registration(signers, name=name))
    stub = keyservice.operator.stub(keys_grpc.EncryptionKeyServiceStub)
    found, token = [], ""
    while True:
        page = await keyservice.operator.call(
            stub.ListEncryptionKeys,
            keys.ListEncryptionKeysRequest(parent=LENDING, page_size=2, page_token=token),
        )
        found += [key.name for key in page.encryption_keys]
        token = page.next_page_token
        if not token:
            break
    assert found == names


async def test_what_not_all_trustees_signed_is_refused(keyservice: Deployment) -> None:
    signers = await trustees(keyservice)
    operator = keyservice.operator
    assert await refusal(operator, registration(signers[:2])) == "KEY_NOT_ENDORSED"
    assert await refusal(operator, registration([*signers[:2], signers[0]])) == "KEY_NOT_ENDORSED"
    other = registration(signers, signed=b"another key")
    assert await refusal(operator, other) == "KEY_NOT_ENDORSED"
    swapped = registration(signers)
    swapped.public_key = b"another key"
    assert await refusal(operator, swapped) == "KEY_DIGEST_MISMATCH"
    bank = (await keyservice.enrol(BANK, await keyservice.create(BANK))).current()
    assert await refusal(operator, registration([*signers[:2], bank])) == "CERTIFICATE_UNTRUSTED"
    nowhere = registration(signers, name="federations/nowhere/encryptionKeys/first")
    assert await refusal(operator, nowhere) == "FEDERATION_NOT_FOUND"
    await register(operator, registration(signers))
    assert await refusal(operator, registration(signers)) == "KEY_EXISTS"


async def test_members_of_other_federations_read_nothing(keyservice: Deployment) -> None:
    await register(keyservice.operator, registration(await trustees(keyservice)))
    stub = keyservice.operator.stub(keys_grpc.EncryptionKeyServiceStub)
    bank = await keyservice.member(BANK)
    for name in ("federations/cards/encryptionKeys/first", "federations/cards/encryptionKeys/no"):
        with pytest.raises(FinSecureError) as caught:
            await bank.call(
                bank.stub(keys_grpc.EncryptionKeyServiceStub).GetEncryptionKey,
                keys.GetEncryptionKeyRequest(name=name),
            )
        assert caught.value.code == "FEDERATION_FOREIGN"
    with pytest.raises(FinSecureError) as caught:
        await keyservice.operator.call(
            stub.GetEncryptionKey, keys.GetEncryptionKeyRequest(name=NAME + "2")
        )
    assert caught.value.code == "KEY_UNKNOWN"


async def test_states_move_where_they_may_and_end_where_they_end(keyservice: Deployment) -> None:
    await register(keyservice.operator, registration(await trustees(keyservice)))

    async def move(
        state: keys.EncryptionKeyState.ValueType, by: Connection = keyservice.operator
    ) -> keys.EncryptionKey:
        response = await by.call(
            by.stub(keys_grpc.EncryptionKeyServiceStub).SetEncryptionKeyState,
            keys.SetEncryptionKeyStateRequest(
                name=NAME, state=state, reason="a test", request_id=new_id()
            ),
        )
        return response.encryption_key

    for state in (
        keys.ENCRYPTION_KEY_STATE_DEACTIVATED,
        keys.ENCRYPTION_KEY_STATE_DISABLED,
        keys.ENCRYPTION_KEY_STATE_ENABLED,
    ):
        assert (await move(state)).state == state
    # One person may stop a key at once, but not end it.
    with pytest.raises(FinSecureError) as caught:
        await move(keys.ENCRYPTION_KEY_STATE_DESTROYED)
    assert caught.value.code == "ROLE_NOT_ALLOWED"
    carol, dave = await keyservice.officer("carol"), await keyservice.officer("dave")
    with pytest.raises(FinSecureError) as caught:
        await move(keys.ENCRYPTION_KEY_STATE_DESTROYED, carol)
    assert caught.value.code == "APPROVAL_REQUIRED"
    approving = dave.stub(approvals_grpc.ApprovalServiceStub)
    listed = await dave.call(approving.ListProposals, approvals.ListProposalsRequest())
    approve = approvals.ApproveProposalRequest(name=listed.proposals[0].name, request_id=new_id())
    await dave.call(approving.ApproveProposal, approve)
    destroyed = await move(keys.ENCRYPTION_KEY_STATE_DESTROYED, carol)
    assert destroyed.state == keys.ENCRYPTION_KEY_STATE_DESTROYED
    with pytest.raises(FinSecureError) as caught:
        await move(keys.ENCRYPTION_KEY_STATE_ENABLED)
    assert caught.value.code == "KEY_STATE"
