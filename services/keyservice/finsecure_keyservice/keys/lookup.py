"""Finding rings, keys and versions, and refusing what is not there or has changed."""

from collections.abc import Sequence

from finsecure_crypto.errors import ConflictError, NotFoundError, StateError

from finsecure_keyservice.keys.names import VersionName, key_parent, ring_parent
from finsecure_keyservice.keys.records import CryptoKey, KeyRing, KeyVersion
from finsecure_keyservice.keys.store import KeyStore


def require_federation(store: KeyStore, name: str) -> None:
    """Refuse what belongs to no federation.

    Raises:
        NotFoundError: FEDERATION_NOT_FOUND.
    """
    if not store.has_federation(name):
        raise NotFoundError(
            "FEDERATION_NOT_FOUND", f"there is no {name}; list the federations for what there is"
        )


def get_ring(store: KeyStore, name: str) -> KeyRing:
    """Read a ring.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: KEY_RING_NOT_FOUND.
    """
    ring_parent(name)
    ring = store.ring(name)
    if ring is None:
        raise NotFoundError("KEY_RING_NOT_FOUND", f"there is no {name}; list the key rings")
    return ring


def get_key(store: KeyStore, name: str) -> CryptoKey:
    """Read a key.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: KEY_NOT_FOUND.
    """
    key_parent(name)
    key = store.key(name)
    if key is None:
        raise NotFoundError("KEY_NOT_FOUND", f"there is no {name}; list the keys of its ring")
    return key


def list_keys(store: KeyStore, parent: str, behind: str, limit: int) -> Sequence[CryptoKey]:
    """Read at most `limit` keys of a ring, from behind a name.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: KEY_RING_NOT_FOUND.
    """
    get_ring(store, parent)
    return store.keys(parent, behind, limit)


def get_version(store: KeyStore, name: str) -> KeyVersion:
    """Read a version.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: KEY_VERSION_NOT_FOUND.
    """
    parsed = VersionName.parse(name)
    version = store.version(parsed.key, parsed.number)
    if version is None:
        raise NotFoundError(
            "KEY_VERSION_NOT_FOUND", f"there is no {name}; list the versions of its key"
        )
    return version


def list_versions(store: KeyStore, parent: str, behind: int, limit: int) -> Sequence[KeyVersion]:
    """Read at most `limit` versions of a key, from behind a number.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: KEY_NOT_FOUND.
    """
    get_key(store, parent)
    return store.versions(parent, behind, limit)


def primary_of(store: KeyStore, name: str) -> KeyVersion:
    """The version that protects; `name` is a key's.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: KEY_NOT_FOUND.
        StateError: KEY_WITHOUT_PRIMARY.
    """
    key = get_key(store, name)
    version = None if key.primary is None else store.version(name, key.primary)
    if version is None:
        raise StateError(
            "KEY_WITHOUT_PRIMARY",
            f"{name} has no version in use; wait for its first one, enable one, or rotate the key",
        )
    return version


def require_revision(thing: CryptoKey | KeyVersion, revision: int | None) -> None:
    """Refuse a change that was decided on an older state.

    Raises:
        ConflictError: ETAG_MISMATCH.
    """
    if revision is not None and revision != thing.revision:
        raise ConflictError(
            "ETAG_MISMATCH", f"{thing.name} has changed meanwhile; read it again, then decide"
        )


def list_rings(store: KeyStore, parent: str, behind: str, limit: int) -> Sequence[KeyRing]:
    """Read at most `limit` rings of a federation, from behind a name.

    Raises:
        NotFoundError: FEDERATION_NOT_FOUND.
    """
    require_federation(store, parent)
    return store.rings(parent, behind, limit)
