"""Rings and keys: creating them, and asking for new versions, in one transaction with the event."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from finsecure_crypto.errors import ConflictError, InvalidArgumentError, StateError

from finsecure_keyservice.keys.lookup import (
    get_key,
    get_ring,
    require_federation,
    require_revision,
)
from finsecure_keyservice.keys.names import key_parent, ring_parent
from finsecure_keyservice.keys.records import (
    ALGORITHMS,
    CryptoKey,
    KeyAlgorithm,
    KeyPurpose,
    KeyRing,
    KeyVersion,
)
from finsecure_keyservice.keys.states import VersionState
from finsecure_keyservice.keys.store import KeyStore

SHORTEST_ROTATION = timedelta(days=1)
LONGEST_ROTATION = timedelta(days=3650)
SHORTEST_DELAY = timedelta(days=1)
LONGEST_DELAY = timedelta(days=120)
DEFAULT_DELAY = timedelta(days=30)
_MOST_VERSIONS = 10_000


@dataclass(frozen=True)
class KeyWish:
    """What a new key should be; `None` means the default."""

    name: str
    purpose: KeyPurpose
    algorithm: KeyAlgorithm
    rotation_period: timedelta | None = None
    destroy_delay: timedelta | None = None


def create_ring(store: KeyStore, name: str, now: datetime) -> KeyRing:
    """Open a key ring.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: FEDERATION_NOT_FOUND.
        ConflictError: KEY_RING_EXISTS.
    """
    parent = ring_parent(name)
    require_federation(store, parent)
    if store.ring(name) is not None:
        raise ConflictError("KEY_RING_EXISTS", f"{name} exists already; choose another id")
    ring = KeyRing(name, parent, now)
    store.add_ring(ring)
    store.trail.record("key-ring.create", name)
    return ring


def create_key(store: KeyStore, wish: KeyWish, now: datetime) -> CryptoKey:
    """Create a key together with its first version, which is still to be made.

    Raises:
        InvalidArgumentError: NAME_MALFORMED, KEY_ALGORITHM, ROTATION_PERIOD, DESTROY_DELAY.
        NotFoundError: KEY_RING_NOT_FOUND.
        ConflictError: KEY_EXISTS.
    """
    parent = key_parent(wish.name)
    get_ring(store, parent)
    if store.key(wish.name) is not None:
        raise ConflictError("KEY_EXISTS", f"{wish.name} exists already; choose another id")
    if wish.algorithm not in ALGORITHMS[wish.purpose]:
        allowed = ", ".join(sorted(each.value for each in ALGORITHMS[wish.purpose]))
        raise InvalidArgumentError(
            "KEY_ALGORITHM", f"a key for {wish.purpose.value} is one of: {allowed}"
        )
    key = CryptoKey(
        name=wish.name,
        parent=parent,
        purpose=wish.purpose,
        algorithm=wish.algorithm,
        rotation_period=_checked_period(wish.rotation_period),
        next_rotation_time=_next_rotation(wish.rotation_period, now),
        destroy_delay=_checked_delay(wish.destroy_delay),
        primary=None,
        create_time=now,
    )
    store.add_key(key)
    store.trail.record(
        "key.create", key.name, purpose=key.purpose.value, algorithm=key.algorithm.value
    )
    add_version(store, key, now, now)
    return key


def set_rotation(
    store: KeyStore, name: str, period: timedelta | None, revision: int | None, now: datetime
) -> CryptoKey:
    """Change after how long a key rotates by itself; None ends that.

    Raises:
        InvalidArgumentError: NAME_MALFORMED, ROTATION_PERIOD.
        NotFoundError: KEY_NOT_FOUND.
        ConflictError: ETAG_MISMATCH.
    """
    key = get_key(store, name)
    require_revision(key, revision)
    changed = replace(
        key,
        rotation_period=_checked_period(period),
        next_rotation_time=_next_rotation(period, now),
        revision=key.revision + 1,
    )
    store.update_key(changed)
    store.trail.record(
        "key.set-rotation", name, days=0 if period is None else round(period / timedelta(days=1))
    )
    return changed


def rotate(
    store: KeyStore, name: str, activate_time: datetime | None, revision: int | None, now: datetime
) -> KeyVersion:
    """Ask for a new version, which takes over once it is made and its time has come.

    Raises:
        InvalidArgumentError: NAME_MALFORMED, ACTIVATE_TIME.
        NotFoundError: KEY_NOT_FOUND.
        ConflictError: ETAG_MISMATCH.
        StateError: KEY_ROTATION_PENDING, KEY_VERSIONS_EXHAUSTED.
    """
    key = get_key(store, name)
    require_revision(key, revision)
    if activate_time is not None and activate_time > now + LONGEST_ROTATION:
        raise InvalidArgumentError("ACTIVATE_TIME", "activate_time is more than ten years away")
    changed = replace(
        key,
        next_rotation_time=_next_rotation(key.rotation_period, now),
        revision=key.revision + 1,
    )
    store.update_key(changed)
    return add_version(store, changed, max(activate_time or now, now), now)


def add_version(
    store: KeyStore, key: CryptoKey, activate_time: datetime, now: datetime
) -> KeyVersion:
    """Record a version that is still to be made.

    Raises:
        StateError: KEY_ROTATION_PENDING, KEY_VERSIONS_EXHAUSTED.
    """
    newest = store.newest_number(key.name)
    last = store.version(key.name, newest)
    if last is not None and last.state in (
        VersionState.PENDING_GENERATION,
        VersionState.PENDING_ACTIVATION,
    ):
        raise StateError(
            "KEY_ROTATION_PENDING",
            f"{last.name} is {last.state.value} already; wait for it, or destroy it first",
        )
    if newest >= _MOST_VERSIONS:
        raise StateError("KEY_VERSIONS_EXHAUSTED", f"{key.name} has had all its versions")
    version = KeyVersion(
        key=key.name,
        number=newest + 1,
        state=VersionState.PENDING_GENERATION,
        create_time=now,
        activate_time=activate_time,
    )
    store.add_version(version)
    store.trail.record("key-version.create", version.name)
    return version


def _next_rotation(period: timedelta | None, now: datetime) -> datetime | None:
    return None if period is None else now + period


def _checked_period(period: timedelta | None) -> timedelta | None:
    if period is not None and not SHORTEST_ROTATION <= period <= LONGEST_ROTATION:
        raise InvalidArgumentError(
            "ROTATION_PERIOD", "a rotation period is between one day and ten years"
        )
    return period


def _checked_delay(delay: timedelta | None) -> timedelta:
    delay = DEFAULT_DELAY if delay is None else delay
    if not SHORTEST_DELAY <= delay <= LONGEST_DELAY:
        raise InvalidArgumentError(
            "DESTROY_DELAY", "the time before destruction is between 1 and 120 days"
        )
    return delay
