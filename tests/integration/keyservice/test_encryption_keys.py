"""The register of encryption keys: all trustees have signed, members read, states move."""

from datetime import UTC, datetime

import pytest
from finsecure.keyservice.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    certificates_pb2,
    certificates_pb2_grpc,
)
from finsecure.keyservice.v1 import encryption_keys_pb2 as keys
from finsecure.keyservice.v1 import encryption_keys_pb2_grpc as keys_grpc
from finsecure.keyservice.v1 import members_pb2 as members
from finsecure.keyservice.v1 import members_pb2_grpc as members_grpc
from finsecure_crypto.audit_event import Event
from finsecure_crypto.certificates import RevocationList
from finsecure_crypto.errors import FinSecureError, IntegrityError
from finsecure_keyservice.schema import AUDIT
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.connection import Connection
from finsecure_rpc.database import open_database
from finsecure_rpc.encryption_keys import download_published
from finsecure_rpc.identity_store import IdentityStore
from finsecure_rpc.log_memory import LogMemory
from finsecure_rpc.renewal import Renewer
from sqlalchemy import update

from tests.support.encryption_keys import (
    NAME,
    PUBLIC,
    TRUSTEES,
    approve,
    move,
    register,
    registration,
    trustees,
)
from tests.support.keyservice_deployment import BANK, LENDING, Deployment, new_id


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
    stranger = registration([*signers[:2], bank])
    assert await refusal(operator, stranger) == "MEMBER_NOT_ACTIVE"
    namesake = f"{LENDING}/trustees/bank-1"
    key = await keyservice.create(namesake)
    stranger.request_id = new_id()
    assert await refusal(operator, stranger) == "MEMBER_NOT_ACTIVE"  # it has not enrolled
    await keyservice.enrol(namesake, key)
    stranger.request_id = new_id()
    assert await refusal(operator, stranger) == "CERTIFICATE_UNTRUSTED"
    nowhere = registration(signers, name="federations/nowhere/encryptionKeys/first")
    assert await refusal(operator, nowhere) == "FEDERATION_NOT_FOUND"
    await register(operator, registration(signers))
    assert await refusal(operator, registration(signers)) == "KEY_EXISTS"


async def test_a_suspended_trustee_makes_no_key_until_two_officers_take_it_back(
    keyservice: Deployment,
) -> None:
    async def take_back(by: Connection) -> members.ReactivateMemberResponse:
        west = members.ReactivateMemberRequest(name=request.name, request_id=new_id())
        return await by.call(by.stub(members_grpc.MemberServiceStub).ReactivateMember, west)

    signers, operator = await trustees(keyservice), keyservice.operator
    request = members.SuspendMemberRequest(
        name=f"{LENDING}/trustees/west", reason="looked into", request_id=new_id()
    )
    stub = operator.stub(members_grpc.MemberServiceStub)
    await operator.call(stub.SuspendMember, request)
    assert await refusal(operator, registration(signers)) == "MEMBER_NOT_ACTIVE"
    carol, dave = await keyservice.officer("carol"), await keyservice.officer("dave")
    for alone, code in ((operator, "ROLE_NOT_ALLOWED"), (carol, "APPROVAL_REQUIRED")):
        with pytest.raises(FinSecureError, match=code):
            await take_back(alone)
    assert await refusal(operator, registration(signers)) == "MEMBER_NOT_ACTIVE"
    await approve(dave)
    assert (await take_back(carol)).member.state == members.MEMBER_STATE_ACTIVE
    assert await register(operator, registration(signers))


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
    operator = keyservice.operator
    for state in (
        keys.ENCRYPTION_KEY_STATE_DEACTIVATED,
        keys.ENCRYPTION_KEY_STATE_DISABLED,
        keys.ENCRYPTION_KEY_STATE_ENABLED,
    ):
        assert (await move(operator, state)).state == state
    # One person may stop a key at once, but not end it.
    with pytest.raises(FinSecureError) as caught:
        await move(operator, keys.ENCRYPTION_KEY_STATE_DESTROYED)
    assert caught.value.code == "ROLE_NOT_ALLOWED"
    carol, dave = await keyservice.officer("carol"), await keyservice.officer("dave")
    with pytest.raises(FinSecureError) as caught:
        await move(carol, keys.ENCRYPTION_KEY_STATE_DESTROYED)
    assert caught.value.code == "APPROVAL_REQUIRED"
    await approve(dave)
    destroyed = await move(carol, keys.ENCRYPTION_KEY_STATE_DESTROYED)
    assert destroyed.state == keys.ENCRYPTION_KEY_STATE_DESTROYED
    with pytest.raises(FinSecureError) as caught:
        await move(operator, keys.ENCRYPTION_KEY_STATE_ENABLED)
    assert caught.value.code == "KEY_STATE"


async def renew(
    connection: Connection, request: keys.RegisterEncryptionKeyRequest
) -> keys.EncryptionKey:
    """Bring the endorsements of a registration as new ones."""
    response = await connection.call(
        connection.stub(keys_grpc.EncryptionKeyServiceStub).RenewEndorsements,
        keys.RenewEndorsementsRequest(
            name=NAME, endorsements=request.encryption_key.endorsements, request_id=new_id()
        ),
    )
    return response.encryption_key


async def test_trustees_sign_anew_for_their_own_key_and_nobody_else_does(
    keyservice: Deployment,
) -> None:
    signers = await trustees(keyservice)
    made = await register(keyservice.operator, registration(signers))
    stores = [
        IdentityStore(keyservice.folder / "members" / LENDING / "trustees" / name)
        for name in TRUSTEES
    ]
    for store in stores:
        async with keyservice.connect(store) as connection:
            await Renewer(store, connection).renew_now()
    later = [store.current() for store in stores]
    renewed = await renew(keyservice.operator, registration(later))
    assert renewed.endorse_time.ToDatetime() > made.endorse_time.ToDatetime()
    assert (renewed.digest, renewed.create_time) == (made.digest, made.create_time)
    bank = await keyservice.member(BANK)
    follower = LogFollower(bank, LogMemory(keyservice.folder / "memory.json"))
    key = await download_published(bank, follower, NAME)
    assert [item.certificate for item in key.endorsements] == [
        identity.signing_certificate for identity in later
    ]
    others = await trustees(keyservice, ("south", "middle", "nowhere"))
    for signed, reason in (
        (registration(others), "ENDORSERS_DIFFER"),
        (registration([later[1], later[0], later[2]]), "ENDORSERS_DIFFER"),
        (registration(later, signed=b"another key"), "KEY_NOT_ENDORSED"),
    ):
        with pytest.raises(FinSecureError) as caught:
            await renew(keyservice.operator, signed)
        assert caught.value.code == reason
