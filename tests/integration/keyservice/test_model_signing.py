"""Statements about models over the wire: signed once, by one key, and verified by members."""

from datetime import timedelta
from typing import Any

import pytest
from finsecure.keyservice.v1 import keys_pb2, model_signing_pb2_grpc
from finsecure.keyservice.v1 import model_signing_pb2 as pb
from finsecure_crypto import dsse
from finsecure_crypto.errors import (
    ConflictError,
    FinSecureError,
    IntegrityError,
    InvalidArgumentError,
    PermissionDeniedError,
    StateError,
)
from finsecure_crypto.signatures import SignatureAlgorithm, SoftwareSigner
from finsecure_rpc.connection import Connection
from finsecure_rpc.model_statements import ModelKeys, statement_from_wire, statement_to_wire

from tests.integration.keyservice.test_keys import KEY, _create, _keys, _rotate, _with_primary
from tests.support.keyservice_deployment import LENDING, Deployment, new_id

MODEL = f"{LENDING}/tasks/credit/models/3"


def _statement(**changes: Any) -> pb.ModelStatement:
    fields = {
        "model": MODEL,
        "version": 3,
        "sha256": b"s" * 32,
        "size_bytes": 1234,
        "parent_sha256": b"p" * 32,
        "round": f"{LENDING}/tasks/credit/rounds/3-1",
        "architecture_sha256": b"a" * 32,
        "configuration_sha256": b"c" * 32,
        **changes,
    }
    message = pb.ModelStatement(**fields)
    message.create_time.FromNanoseconds(1_700_000_000_123_456_789)
    return message


def _stub(connection: Connection) -> Any:
    return connection.stub(model_signing_pb2_grpc.ModelSigningServiceStub)


async def _sign(aggregator: Connection, **changes: Any) -> bytes:
    request = pb.SignModelRequest(key=KEY, statement=_statement(**changes))
    answer = await aggregator.call(_stub(aggregator).SignModel, request)
    assert answer.crypto_key_version.startswith(f"{KEY}/cryptoKeyVersions/")
    envelope: bytes = answer.envelope
    return envelope


async def _change(operator: Connection, number: int, change: Any) -> None:
    request = keys_pb2.ChangeCryptoKeyVersionRequest(
        name=f"{KEY}/cryptoKeyVersions/{number}",
        change=change,
        reason="drill",
        request_id=new_id(),
    )
    await operator.call(_keys(operator).ChangeCryptoKeyVersion, request)


@pytest.mark.parametrize(
    "algorithm",
    [
        keys_pb2.KEY_ALGORITHM_ED25519,
        keys_pb2.KEY_ALGORITHM_RSA_4096_PSS_SHA512,
        keys_pb2.KEY_ALGORITHM_ML_DSA_65,
    ],
)
async def test_what_an_aggregator_has_signed_a_member_verifies_here_and_there(
    keyservice: Deployment, algorithm: Any
) -> None:
    await _create(keyservice.operator, algorithm)
    aggregator = await keyservice.member(f"{LENDING}/aggregators/main")
    bank = await keyservice.member(f"{LENDING}/clients/bank-1")
    envelope = await _sign(aggregator)
    answer = await bank.call(
        _stub(bank).VerifyModel, pb.VerifyModelRequest(key=KEY, envelope=envelope)
    )
    assert answer.statement == _statement()
    keys, statement = ModelKeys(bank.channel, KEY), statement_from_wire(_statement())
    await keys.prepare(envelope)
    assert keys.verify(envelope, statement.version, b"a" * 32) == statement
    assert statement_to_wire(statement) == _statement()
    with pytest.raises(IntegrityError, match="MODEL_STATEMENT_MISMATCH"):
        keys.verify(envelope, statement.version, b"x" * 32)


async def test_for_one_model_there_is_one_statement_whatever_key_signs(
    keyservice: Deployment,
) -> None:
    await _create(keyservice.operator)
    aggregator = await keyservice.member(f"{LENDING}/aggregators/main")
    first = await _sign(aggregator)
    assert await _sign(aggregator) == first
    await _rotate(keyservice.operator)
    await _with_primary(keyservice.operator, 2)
    second = await _sign(aggregator)
    assert dsse.Envelope.parse(first).payload == dsse.Envelope.parse(second).payload
    assert first != second
    with pytest.raises(ConflictError, match="MODEL_SIGNED_DIFFERENTLY"):
        await _sign(aggregator, sha256=b"x" * 32)


async def test_a_key_that_was_rotated_verifies_and_one_that_was_stolen_does_not(
    keyservice: Deployment,
) -> None:
    await _create(keyservice.operator)
    aggregator = await keyservice.member(f"{LENDING}/aggregators/main")
    bank = await keyservice.member(f"{LENDING}/clients/bank-1")
    envelope = await _sign(aggregator)
    request = pb.VerifyModelRequest(key=KEY, envelope=envelope)
    await _rotate(keyservice.operator)
    await _with_primary(keyservice.operator, 2)
    await bank.call(_stub(bank).VerifyModel, request)
    keys = ModelKeys(bank.channel, KEY, keyservice.clock)
    await keys.prepare(envelope)
    await _change(keyservice.operator, 1, keys_pb2.CRYPTO_KEY_VERSION_CHANGE_COMPROMISE)
    with pytest.raises(StateError, match="KEY_STATE"):
        await bank.call(_stub(bank).VerifyModel, request)
    keyservice.clock.skew += timedelta(hours=1)
    with pytest.raises(StateError, match="KEY_STATE"):
        await keys.prepare(envelope)
    assert await _sign(aggregator) != envelope  # by the new version


@pytest.mark.parametrize(
    ("changes", "kind", "code"),
    [
        ({"model": "federations/cards/tasks/credit/models/3"}, PermissionDeniedError, "NOT_YOURS"),
        ({"version": 4}, InvalidArgumentError, "MODEL_STATEMENT_MALFORMED"),
        ({"parent_sha256": b"x"}, InvalidArgumentError, "MODEL_STATEMENT_MALFORMED"),
        ({"sha256": b"x"}, InvalidArgumentError, "INVALID_MESSAGE"),
        ({"model": f"{LENDING}/tasks/../models/3"}, InvalidArgumentError, "INVALID_MESSAGE"),
    ],
)
async def test_what_does_not_hold_together_is_not_signed(
    keyservice: Deployment, changes: Any, kind: type[FinSecureError], code: str
) -> None:
    await _create(keyservice.operator)
    aggregator = await keyservice.member(f"{LENDING}/aggregators/main")
    with pytest.raises(kind, match=code):
        await _sign(aggregator, **changes)


async def test_a_statement_that_somebody_else_signed_is_refused(keyservice: Deployment) -> None:
    await _create(keyservice.operator)
    bank = await keyservice.member(f"{LENDING}/clients/bank-1")
    mine = SoftwareSigner.generate(SignatureAlgorithm.ED25519)
    statement = statement_from_wire(_statement())
    for keyid in (f"{KEY}/cryptoKeyVersions/1", f"{KEY}/cryptoKeyVersions/01", "x", KEY):
        envelope = statement.sign(mine, keyid).encode()
        with pytest.raises(IntegrityError, match="MODEL_STATEMENT_REJECTED"):
            await bank.call(
                _stub(bank).VerifyModel, pb.VerifyModelRequest(key=KEY, envelope=envelope)
            )
    keys = ModelKeys(bank.channel, KEY)
    with pytest.raises(IntegrityError, match="ENVELOPE_MISSING"):
        await keys.prepare(b"")
    with pytest.raises(IntegrityError, match="MODEL_STATEMENT_REJECTED"):
        await keys.prepare(statement.sign(mine, "federations/x/cryptoKeyVersions/1").encode())
    forged = statement.sign(mine, f"{KEY}/cryptoKeyVersions/1").encode()
    await keys.prepare(forged)
    with pytest.raises(IntegrityError, match="MODEL_STATEMENT_REJECTED"):
        keys.verify(forged, statement.version, None)
