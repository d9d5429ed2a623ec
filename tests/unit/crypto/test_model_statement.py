"""Signed statements about models: one form, one signer, one model."""

import base64
import json
from dataclasses import replace

import pytest
from finsecure_crypto import dsse
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.model_statement import (
    PAYLOAD_TYPE,
    ModelStatement,
    VerificationKey,
    architecture_digest,
    key_of,
    verify_statement,
)
from finsecure_crypto.model_version import ModelVersion
from finsecure_crypto.signatures import SignatureAlgorithm, SoftwareSigner
from hypothesis import given, settings
from hypothesis import strategies as st

VERSION = ModelVersion(
    name="federations/lending/tasks/credit/models/3",
    version=3,
    sha256=b"s" * 32,
    size_bytes=1234,
    parent_sha256=b"p" * 32,
    round="federations/lending/tasks/credit/rounds/3-1",
    create_time_ns=1_700_000_000_123_456_789,
)
STATEMENT = ModelStatement(VERSION, b"a" * 32, b"c" * 32)
KEY = "federations/lending/keyRings/models/cryptoKeys/global/cryptoKeyVersions/1"
SIGNER = SoftwareSigner.generate(SignatureAlgorithm.ED25519)
KEYS = {KEY: VerificationKey(SIGNER.algorithm, SIGNER.public_key)}
ENVELOPE = STATEMENT.sign(SIGNER, KEY)


def test_the_encoding_that_is_signed_is_that_of_the_specification() -> None:
    # secure-systems-lab/dsse, protocol.md, "Test vectors".
    assert (
        dsse.pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a_statement_survives_the_way() -> None:
    received = dsse.Envelope.parse(ENVELOPE.encode())
    assert received == ENVELOPE
    assert key_of(received) == KEY
    assert verify_statement(received, KEYS) == STATEMENT
    first = replace(STATEMENT, version=replace(VERSION, parent_sha256=b"", round="", version=0))
    assert ModelStatement.parse(first.payload()) == first


def test_a_statement_is_an_in_toto_statement() -> None:
    fields = json.loads(STATEMENT.payload())
    assert fields["_type"] == "https://in-toto.io/Statement/v1"
    assert fields["subject"] == [{"name": VERSION.name, "digest": {"sha256": "73" * 32}}]
    assert fields["predicate"]["lineage"]["parent"] == {"sha256": "70" * 32}
    assert ENVELOPE.payload_type == "application/vnd.in-toto+json"


def test_only_a_believed_key_counts() -> None:
    other = SoftwareSigner.generate(SignatureAlgorithm.ED25519)
    forged = STATEMENT.sign(other, KEY)
    unknown = STATEMENT.sign(SIGNER, KEY[:-1] + "2")
    for envelope, keys in ((forged, KEYS), (unknown, KEYS), (ENVELOPE, {})):
        with pytest.raises(IntegrityError, match="MODEL_STATEMENT_REJECTED"):
            verify_statement(envelope, keys)


def test_an_envelope_of_something_else_does_not_serve() -> None:
    twice = replace(ENVELOPE, signatures=ENVELOPE.signatures * 2)
    other = replace(ENVELOPE, payload_type="text/plain")
    for envelope in (twice, other):
        with pytest.raises(IntegrityError, match="ENVELOPE_MALFORMED"):
            verify_statement(envelope, KEYS)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f["predicate"].update(version=4.0),
        lambda f: f["predicate"].update(extra=1),
        lambda f: f.update(predicateType="urn:other"),
        lambda f: f.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda f: f["subject"].append(f["subject"][0]),
        lambda f: f["subject"][0]["digest"].update(sha256="73" * 31),
        lambda f: f["subject"][0]["digest"].update(sha256=("73" * 32).upper() + ""),
        lambda f: f["subject"][0]["digest"].update(md5="00"),
        lambda f: f["predicate"]["architecture"].update(sha256=""),
        lambda f: f.pop("predicate"),
    ],
)
def test_another_form_is_refused_even_if_it_is_signed(change) -> None:  # type: ignore[no-untyped-def]
    fields = json.loads(STATEMENT.payload())
    before = json.dumps(fields, sort_keys=True)
    change(fields)
    payload = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    if json.dumps(fields, sort_keys=True) == before:
        payload += b" "
    signature = SIGNER.sign(dsse.pae(PAYLOAD_TYPE, payload))
    envelope = dsse.Envelope(PAYLOAD_TYPE, payload, (dsse.EnvelopeSignature(KEY, signature),))
    with pytest.raises(IntegrityError, match="MODEL_STATEMENT_MALFORMED"):
        verify_statement(envelope, KEYS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"payload":"","payloadType":"x","signatures":[]}',
        b'{"payload":"*","payloadType":"x","signatures":[{"keyid":"k","sig":""}]}',
        b'{"payload":"","payloadType":1,"signatures":[{"keyid":"k","sig":""}]}',
        b'{"payload":"","payloadType":"x","signatures":[{"keyid":"k","sig":"","x":1}]}',
        b'{"payload":"","payloadType":"x","signatures":[{"keyid":"k","sig":""}],"x":1}',
        base64.b64encode(ENVELOPE.encode()),
    ],
)
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="ENVELOPE_MALFORMED"):
        dsse.Envelope.parse(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(ENVELOPE.encode()) - 1), st.integers(1, 255))
def test_a_damaged_envelope_never_says_something_else(at: int, mask: int) -> None:
    data = bytearray(ENVELOPE.encode())
    data[at] ^= mask
    try:
        found = verify_statement(dsse.Envelope.parse(bytes(data)), KEYS)
    except IntegrityError:
        return
    assert found == STATEMENT  # spare bits of base64 and white space


def test_a_statement_is_about_the_model_that_was_given_out_alone() -> None:
    STATEMENT.require_describes(VERSION, STATEMENT.architecture)
    STATEMENT.require_describes(VERSION, None)
    for version, architecture in (
        (replace(VERSION, sha256=b"x" * 32), None),
        (replace(VERSION, version=4), None),
        (replace(VERSION, parent_sha256=b""), None),
        (VERSION, b"x" * 32),
    ):
        with pytest.raises(IntegrityError, match="MODEL_STATEMENT_MISMATCH"):
            STATEMENT.require_describes(version, architecture)


def test_architectures_that_differ_have_other_digests() -> None:
    digests = {
        architecture_digest(factory, tensors)
        for factory, tensors in (
            ("m:f", [("w", (2, 3))]),
            ("m:g", [("w", (2, 3))]),
            ("m:f", [("w", (3, 2))]),
            ("m:f", [("w", (6,))]),
            ("m:f", [("v", (2, 3))]),
            ("m:f", [("w", (2,)), ("v", (3,))]),
            ("m:f", []),
        )
    }
    assert len(digests) == 7
