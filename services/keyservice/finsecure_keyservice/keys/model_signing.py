"""Signing statements about models with managed keys, one statement for each model."""

import hashlib
from datetime import datetime

from finsecure_crypto import dsse
from finsecure_crypto.errors import ConflictError, IntegrityError, PermissionDeniedError, StateError
from finsecure_crypto.model_statement import (
    ModelStatement,
    VerificationKey,
    key_of,
    verify_statement,
)

from finsecure_keyservice.keys.lookup import get_key, primary_of
from finsecure_keyservice.keys.material import Material
from finsecure_keyservice.keys.names import VersionName, federation_of
from finsecure_keyservice.keys.records import CryptoKey, KeyPurpose, KeyVersion
from finsecure_keyservice.keys.states import Use, require_use
from finsecure_keyservice.keys.store import KeyStore


def sign_model(
    store: KeyStore, material: Material, key_name: str, statement: ModelStatement, now: datetime
) -> tuple[dsse.Envelope, KeyVersion]:
    """Sign a statement with the primary version of a key; publishes the statement's digest.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: KEY_NOT_FOUND.
        PermissionDeniedError: FEDERATION_NOT_YOURS for a model of another federation.
        StateError: KEY_PURPOSE, KEY_WITHOUT_PRIMARY, KEY_STATE.
        ConflictError: MODEL_SIGNED_DIFFERENTLY.
    """
    key = _signing_key(store, key_name)
    model = statement.version.name
    if federation_of(model) != federation_of(key_name):
        raise PermissionDeniedError(
            "FEDERATION_NOT_YOURS", f"{key_name} signs models of its own federation alone"
        )
    version = primary_of(store, key_name)
    require_use(version.state, Use.PROTECT, version.name)
    digest = hashlib.sha256(statement.payload()).digest()
    signed = store.signed_model(model)
    if signed is None:
        store.add_signed_model(model, digest, now)
    elif signed != digest:
        raise ConflictError(
            "MODEL_SIGNED_DIFFERENTLY",
            f"another statement about {model} was signed before; find out which of both is right",
        )
    envelope = statement.sign(material.signer(key.algorithm, version), version.name)
    store.trail.record("model.sign", model, published=digest, key=version.name)
    return envelope, version


def verify_model(store: KeyStore, key_name: str, data: bytes) -> tuple[ModelStatement, KeyVersion]:
    """Verify an envelope under a key, with the states that its versions have now.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: KEY_NOT_FOUND.
        StateError: KEY_PURPOSE, KEY_STATE.
        IntegrityError: ENVELOPE_MALFORMED, MODEL_STATEMENT_MALFORMED, MODEL_STATEMENT_REJECTED.
    """
    key = _signing_key(store, key_name)
    envelope = dsse.Envelope.parse(data)
    version = _claimed_version(store, key, key_of(envelope))
    require_use(version.state, Use.VERIFY, version.name)
    assert version.public_key is not None  # noqa: S101  # its state says that it has one
    believed = VerificationKey(key.algorithm.signature, version.public_key)
    return verify_statement(envelope, {version.name: believed}), version


def _claimed_version(store: KeyStore, key: CryptoKey, keyid: str) -> KeyVersion:
    prefix = f"{key.name}/cryptoKeyVersions/"
    number = keyid.removeprefix(prefix)
    found = None
    if keyid.startswith(prefix) and number.isdecimal() and len(number) <= 9:
        found = store.version(key.name, int(number))
    if found is None or str(VersionName(key.name, found.number)) != keyid:
        raise IntegrityError(
            "MODEL_STATEMENT_REJECTED", f"no version of {key.name} signed this statement"
        )
    return found


def _signing_key(store: KeyStore, name: str) -> CryptoKey:
    key = get_key(store, name)
    if key.purpose is not KeyPurpose.MODEL_SIGNING:
        raise StateError(
            "KEY_PURPOSE", f"{name} is for {key.purpose.value}; name a key for model signing"
        )
    return key
