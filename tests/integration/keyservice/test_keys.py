"""Managed keys over the wire: made, rotated, destroyed by two, imported, used; and a lost token."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from finsecure.keyservice.v1 import (
    approvals_pb2,
    approvals_pb2_grpc,
    envelope_pb2_grpc,
    keys_pb2_grpc,
)
from finsecure.keyservice.v1 import envelope_pb2 as envelope
from finsecure.keyservice.v1 import keys_pb2 as pb
from finsecure_crypto.errors import (
    ConflictError,
    InvalidArgumentError,
    PermissionDeniedError,
    StateError,
    UnavailableError,
)
from finsecure_crypto.key_import import wrap_for_import
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signatures import SignatureAlgorithm, SoftwareSigner, load_public_key
from finsecure_keyservice.protection.settings import FileProtection, TokenProtection
from finsecure_keyservice.rewrapping import rotate_key_encryption_key
from finsecure_rpc.connection import Connection
from google.protobuf.field_mask_pb2 import FieldMask

from tests.support.keyservice_deployment import LENDING, Deployment, deployed, new_id
from tests.support.softhsm import needs_softhsm, new_token

RING = f"{LENDING}/keyRings/models"
KEY = f"{RING}/cryptoKeys/global"
ENABLED = pb.CRYPTO_KEY_VERSION_STATE_ENABLED


def _keys(connection: Connection) -> Any:
    return connection.stub(keys_pb2_grpc.KeyManagementServiceStub)


async def _create(
    operator: Connection,
    algorithm: pb.KeyAlgorithm = pb.KEY_ALGORITHM_ED25519,
    purpose: pb.KeyPurpose = pb.KEY_PURPOSE_MODEL_SIGNING,
) -> pb.CryptoKey:
    stub = _keys(operator)
    await operator.call(
        stub.CreateKeyRing,
        pb.CreateKeyRingRequest(key_ring=pb.KeyRing(name=RING), request_id=new_id()),
    )
    wanted = pb.CryptoKey(name=KEY, purpose=purpose, algorithm=algorithm)
    await operator.call(
        stub.CreateCryptoKey, pb.CreateCryptoKeyRequest(crypto_key=wanted, request_id=new_id())
    )
    return await _with_primary(operator, 1)


async def _with_primary(operator: Connection, number: int) -> pb.CryptoKey:
    async with asyncio.timeout(60):
        while True:
            answer = await operator.call(
                _keys(operator).GetCryptoKey, pb.GetCryptoKeyRequest(name=KEY)
            )
            key: pb.CryptoKey = answer.crypto_key
            if key.primary.endswith(f"/{number}"):
                return key
            await asyncio.sleep(0.02)


async def _approve(officer: Connection, told: str) -> None:
    """Agree to the one open proposal, if it says what the officer was told."""
    stub = officer.stub(approvals_pb2_grpc.ApprovalServiceStub)
    listed = await officer.call(stub.ListProposals, approvals_pb2.ListProposalsRequest())
    (proposal,) = listed.proposals
    assert told in proposal.summary
    await officer.call(
        stub.ApproveProposal,
        approvals_pb2.ApproveProposalRequest(name=proposal.name, request_id=new_id()),
    )


async def _version(caller: Connection, number: int) -> pb.CryptoKeyVersion:
    name = f"{KEY}/cryptoKeyVersions/{number}"
    answer = await caller.call(
        _keys(caller).GetCryptoKeyVersion, pb.GetCryptoKeyVersionRequest(name=name)
    )
    version: pb.CryptoKeyVersion = answer.crypto_key_version
    return version


async def _public_key(caller: Connection, number: int) -> bytes:
    parts: AsyncIterator[pb.DownloadPublicKeyResponse] = caller.stream(
        _keys(caller).DownloadPublicKey,
        pb.DownloadPublicKeyRequest(name=f"{KEY}/cryptoKeyVersions/{number}"),
        deadline_s=30,
    )
    received = [part async for part in parts]
    assert received[0].WhichOneof("part") == "crypto_key_version"
    return b"".join(part.chunk for part in received[1:])


async def _rotate(operator: Connection, etag: str = "") -> None:
    request = pb.CreateCryptoKeyVersionRequest(parent=KEY, etag=etag, request_id=new_id())
    first = await operator.call(_keys(operator).CreateCryptoKeyVersion, request)
    again = await operator.call(_keys(operator).CreateCryptoKeyVersion, request)
    assert first == again


async def test_a_key_is_made_listed_rotated_and_its_public_key_read_by_members(
    keyservice: Deployment,
) -> None:
    operator = keyservice.operator
    key = await _create(operator)
    assert key.destroy_delay.seconds == 30 * 86400
    with pytest.raises(ConflictError, match="ETAG_MISMATCH"):
        await _rotate(operator, "ffff")
    await _rotate(operator, key.etag)
    await _with_primary(operator, 2)
    bank = await keyservice.member(f"{LENDING}/clients/bank-1")
    listed = await bank.call(
        _keys(bank).ListCryptoKeyVersions,
        pb.ListCryptoKeyVersionsRequest(parent=KEY, page_size=1),
    )
    rest = await bank.call(
        _keys(bank).ListCryptoKeyVersions,
        pb.ListCryptoKeyVersionsRequest(parent=KEY, page_size=1, page_token=listed.next_page_token),
    )
    assert rest.next_page_token == ""
    states = [item.state for page in (listed, rest) for item in page.crypto_key_versions]
    assert states == [pb.CRYPTO_KEY_VERSION_STATE_DEACTIVATED, ENABLED]
    for number in (1, 2):
        load_public_key(SignatureAlgorithm.ED25519, await _public_key(bank, number))
    rings = await bank.call(_keys(bank).ListKeyRings, pb.ListKeyRingsRequest(parent=LENDING))
    assert [ring.name for ring in rings.key_rings] == [RING]
    found = await bank.call(_keys(bank).ListCryptoKeys, pb.ListCryptoKeysRequest(parent=RING))
    assert [item.name for item in found.crypto_keys] == [KEY]


async def test_only_what_the_mask_names_changes(keyservice: Deployment) -> None:
    operator = keyservice.operator
    key = await _create(operator)
    key.rotation_period.seconds = 90 * 86400
    for paths in ([], ["purpose"], ["rotation_period", "destroy_delay"]):
        request = pb.UpdateCryptoKeyRequest(
            crypto_key=key, update_mask=FieldMask(paths=paths), request_id=new_id()
        )
        with pytest.raises(InvalidArgumentError, match="UPDATE_MASK"):
            await operator.call(_keys(operator).UpdateCryptoKey, request)
    answer = await operator.call(
        _keys(operator).UpdateCryptoKey,
        pb.UpdateCryptoKeyRequest(
            crypto_key=key,
            update_mask=FieldMask(paths=["rotation_period"]),
            request_id=new_id(),
        ),
    )
    assert answer.crypto_key.rotation_period.seconds == 90 * 86400
    assert answer.crypto_key.HasField("next_rotation_time")
    assert answer.crypto_key.etag != key.etag


async def test_two_officers_destroy_and_one_operator_restores(keyservice: Deployment) -> None:
    operator = keyservice.operator
    await _create(operator)
    name = f"{KEY}/cryptoKeyVersions/1"
    change = pb.ChangeCryptoKeyVersionRequest(
        name=name,
        change=pb.CRYPTO_KEY_VERSION_CHANGE_DISABLE,
        reason="drill",
        request_id=new_id(),
    )
    await operator.call(_keys(operator).ChangeCryptoKeyVersion, change)
    carol, dave = await keyservice.officer("carol"), await keyservice.officer("dave")

    def destroy() -> pb.DestroyCryptoKeyVersionRequest:
        return pb.DestroyCryptoKeyVersionRequest(name=name, reason="drill", request_id=new_id())

    with pytest.raises(PermissionDeniedError):
        await operator.call(_keys(operator).DestroyCryptoKeyVersion, destroy())
    with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
        await carol.call(_keys(carol).DestroyCryptoKeyVersion, destroy())
    assert (await _version(operator, 1)).state == pb.CRYPTO_KEY_VERSION_STATE_DISABLED
    await _approve(dave, name)
    answer = await carol.call(_keys(carol).DestroyCryptoKeyVersion, destroy())
    scheduled = answer.crypto_key_version
    assert scheduled.state == pb.CRYPTO_KEY_VERSION_STATE_DESTROY_SCHEDULED
    assert scheduled.HasField("destroy_time")
    restore = pb.ChangeCryptoKeyVersionRequest(
        name=name,
        change=pb.CRYPTO_KEY_VERSION_CHANGE_RESTORE,
        reason="drill",
        etag=scheduled.etag,
        request_id=new_id(),
    )
    await operator.call(_keys(operator).ChangeCryptoKeyVersion, restore)
    assert (await _version(operator, 1)).state == pb.CRYPTO_KEY_VERSION_STATE_DISABLED


async def test_two_officers_bring_a_key_in(keyservice: Deployment) -> None:
    operator = keyservice.operator
    carol, dave = await keyservice.officer("carol"), await keyservice.officer("dave")
    await _create(operator)
    theirs = SoftwareSigner.generate(SignatureAlgorithm.ED25519)
    made = await operator.call(
        _keys(operator).CreateImportJob,
        pb.CreateImportJobRequest(parent=RING, request_id=new_id()),
    )
    job = made.import_job

    def bring(material: SecretBytes) -> pb.ImportCryptoKeyVersionRequest:
        return pb.ImportCryptoKeyVersionRequest(
            parent=KEY,
            import_job=job.name,
            wrapped_key=wrap_for_import(material, job.name, job.public_key, KEY),
            request_id=new_id(),
        )

    request = bring(theirs.export())
    with pytest.raises(PermissionDeniedError):
        await operator.call(_keys(operator).ImportCryptoKeyVersion, request)
    with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
        await carol.call(_keys(carol).ImportCryptoKeyVersion, request)
    await _approve(dave, hashlib.sha256(request.wrapped_key).hexdigest())
    other = bring(SoftwareSigner.generate(SignatureAlgorithm.ED25519).export())
    with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
        await carol.call(_keys(carol).ImportCryptoKeyVersion, other)
    answer = await carol.call(_keys(carol).ImportCryptoKeyVersion, request)
    assert answer.crypto_key_version.imported
    assert await _public_key(operator, 2) == theirs.public_key


async def test_an_aggregator_wraps_data_keys_of_its_own_federation(keyservice: Deployment) -> None:
    await _create(keyservice.operator, pb.KEY_ALGORITHM_AES_256_GCM, pb.KEY_PURPOSE_DATA_ENCRYPTION)
    aggregator = await keyservice.member(f"{LENDING}/aggregators/main")
    stub = aggregator.stub(envelope_pb2_grpc.EnvelopeServiceStub)
    data_key = bytes(range(32))
    wrapped = await aggregator.call(
        stub.WrapDataKey,
        envelope.WrapDataKeyRequest(name=KEY, data_key=data_key, associated_data=b"model"),
    )
    opened = await aggregator.call(
        stub.UnwrapDataKey,
        envelope.UnwrapDataKeyRequest(
            name=KEY, wrapped_key=wrapped.wrapped_key, associated_data=b"model"
        ),
    )
    assert opened.data_key == data_key
    foreign = KEY.replace("lending", "cards")
    with pytest.raises(PermissionDeniedError, match="FEDERATION_NOT_YOURS"):
        await aggregator.call(
            stub.WrapDataKey, envelope.WrapDataKeyRequest(name=foreign, data_key=data_key)
        )
    with pytest.raises(PermissionDeniedError, match="FEDERATION_NOT_YOURS"):
        await aggregator.call(_keys(aggregator).GetCryptoKey, pb.GetCryptoKeyRequest(name=foreign))


@needs_softhsm
async def test_a_service_whose_token_is_removed_says_so_and_goes_on_when_it_is_back(
    tmp_path: Path,
) -> None:
    token = new_token(tmp_path)
    settings = TokenProtection.model_validate(token.settings)
    async with deployed(tmp_path, protection=settings) as keyservice:
        await _create(keyservice.operator)
        version = await _version(keyservice.operator, 1)
        assert version.protection == pb.KEY_PROTECTION_TOKEN
        key = await keyservice.create(f"{LENDING}/clients/bank-1")
        token.remove()
        with pytest.raises(UnavailableError, match="TOKEN_NOT_PRESENT"):
            await keyservice.enrol(f"{LENDING}/clients/bank-1", key)
        token.bring_back()
        await keyservice.enrol(f"{LENDING}/clients/bank-1", key)  # the API key is not spent
        await _rotate(keyservice.operator)
        await _with_primary(keyservice.operator, 2)
        key = await keyservice.create(f"{LENDING}/clients/bank-2")
        await keyservice.stop()
        await keyservice.start()  # the authority's key is found in the token again
        await keyservice.enrol(f"{LENDING}/clients/bank-2", key)


@pytest.mark.parametrize(
    "protect",
    [
        lambda folder: FileProtection(kind="file", key_file=folder / "kek"),
        pytest.param(
            lambda folder: TokenProtection.model_validate(new_token(folder).settings),
            marks=needs_softhsm,
        ),
    ],
    ids=["file", "token"],
)
async def test_the_key_encryption_key_is_rotated_under_a_running_service(
    tmp_path: Path, protect: Callable[[Path], Any]
) -> None:
    async with deployed(tmp_path, protection=protect(tmp_path)) as keyservice:
        # ML-DSA keys are wrapped under both kinds of protection.
        await _create(keyservice.operator, pb.KEY_ALGORITHM_ML_DSA_65)
        made = await keyservice.operator.call(
            _keys(keyservice.operator).CreateImportJob,
            pb.CreateImportJobRequest(parent=RING, request_id=new_id()),
        )
        version, count = await asyncio.to_thread(
            rotate_key_encryption_key, keyservice.configuration, keyservice.clock()
        )
        assert version == 2
        assert count == 4  # the authority, the key, the import job, the audit log
        theirs = SoftwareSigner.generate(SignatureAlgorithm.ML_DSA_65)
        job = made.import_job
        request = pb.ImportCryptoKeyVersionRequest(
            parent=KEY,
            import_job=job.name,
            wrapped_key=wrap_for_import(theirs.export(), job.name, job.public_key, KEY),
            request_id=new_id(),
        )
        carol, dave = await keyservice.officer("carol"), await keyservice.officer("dave")
        with pytest.raises(StateError, match="APPROVAL_REQUIRED"):
            await carol.call(_keys(carol).ImportCryptoKeyVersion, request)
        await _approve(dave, job.name)
        # The running service opens what was wrapped anew.
        await carol.call(_keys(carol).ImportCryptoKeyVersion, request)
        key = await keyservice.create(f"{LENDING}/clients/bank-1")
        await keyservice.stop()
        state = keyservice.configuration.state_dir
        for path in (state / "api-key.pepper", state / "audit.secret"):
            assert path.read_bytes()[:6] == b"W\x01\0\0\0\2"
        await keyservice.start()
        await keyservice.enrol(f"{LENDING}/clients/bank-1", key)
