"""Envelope encryption: data keys wrapped under a version, in the transaction of their event."""

from finsecure_crypto.errors import IntegrityError, StateError
from finsecure_crypto.secret import SecretBytes

from finsecure_keyservice.keys.lookup import get_key, primary_of
from finsecure_keyservice.keys.material import Material, wrapping_version
from finsecure_keyservice.keys.records import CryptoKey, KeyPurpose, KeyVersion
from finsecure_keyservice.keys.states import Use, require_use
from finsecure_keyservice.keys.store import KeyStore


def wrap(
    store: KeyStore, material: Material, name: str, data_key: SecretBytes, associated: bytes
) -> tuple[KeyVersion, bytes]:
    """Wrap a data key under the primary version of a key.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: KEY_NOT_FOUND.
        StateError: KEY_PURPOSE, KEY_WITHOUT_PRIMARY, KEY_STATE.
    """
    _require_purpose(get_key(store, name))
    version = primary_of(store, name)
    require_use(version.state, Use.PROTECT, version.name)
    wrapped = material.wrap(version, data_key, associated)
    store.trail.record("data-key.wrap", version.name)
    return version, wrapped


def unwrap(
    store: KeyStore, material: Material, name: str, wrapped: bytes, associated: bytes
) -> tuple[SecretBytes, bool]:
    """Unwrap a data key; also tells whether the version that wrapped it is no longer the primary.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: KEY_NOT_FOUND.
        StateError: KEY_PURPOSE, KEY_STATE.
        IntegrityError: DATA_KEY_REJECTED.
    """
    key = get_key(store, name)
    _require_purpose(key)
    version = store.version(name, wrapping_version(wrapped))
    if version is None:
        raise IntegrityError("DATA_KEY_REJECTED", f"no version of {name} wrapped this data key")
    require_use(version.state, Use.OPEN, version.name)
    data_key = material.unwrap(version, wrapped, associated)
    store.trail.record("data-key.unwrap", version.name)
    return data_key, version.number != key.primary


def _require_purpose(key: CryptoKey) -> None:
    if key.purpose is not KeyPurpose.DATA_ENCRYPTION:
        raise StateError(
            "KEY_PURPOSE", f"{key.name} is for {key.purpose.value}; name a key for data encryption"
        )
