"""The life of versions: what people and time may do to them, by the table of `states.py`.

Each change records its event in the same transaction. Nothing here makes or opens a key; that is
`material.py`'s.
"""

from dataclasses import replace
from datetime import datetime

from finsecure_crypto.errors import StateError

from finsecure_keyservice.keys.lookup import get_key, get_version, require_revision
from finsecure_keyservice.keys.material import Made
from finsecure_keyservice.keys.records import KeyVersion
from finsecure_keyservice.keys.states import Step, VersionState, after
from finsecure_keyservice.keys.store import KeyStore


def change(
    store: KeyStore,
    name: str,
    step: Step,
    *,
    reason: str,
    revision: int | None,
    now: datetime,
) -> KeyVersion:
    """Move a version on behalf of a person.

    A version that is put out of use while it is the primary leaves its key without one: nothing
    is protected until the key is rotated or the version enabled again.

    Args:
        store: the transaction.
        name: of the version.
        step: DISABLE, ENABLE, DEACTIVATE, SCHEDULE_DESTRUCTION, RESTORE or COMPROMISE.
        reason: why, for the record.
        revision: that the version must have, or None.
        now: the time.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: KEY_VERSION_NOT_FOUND.
        ConflictError: ETAG_MISMATCH.
        StateError: KEY_STATE, KEY_COMPROMISED.
    """
    version = get_version(store, name)
    require_revision(version, revision)
    if version.compromise_time is not None and step in (Step.ENABLE, Step.DEACTIVATE):
        raise StateError(
            "KEY_COMPROMISED", f"{name} was in wrong hands and is never used again; rotate its key"
        )
    if step is Step.RESTORE and destruction_is_due(version, now):
        raise StateError("KEY_STATE", f"the time of {name} is over; it can no longer be restored")
    changed = _moved(version, step)
    if step is Step.SCHEDULE_DESTRUCTION:
        changed = replace(changed, destroy_time=now + get_key(store, version.key).destroy_delay)
    elif step is Step.RESTORE:
        changed = replace(changed, destroy_time=None)
    elif step is Step.COMPROMISE:
        changed = replace(
            changed, destroy_time=None, compromise_time=version.compromise_time or now
        )
    store.update_version(changed)
    _update_primary(store, changed)
    store.trail.record(f"key-version.{step.value}", name, sealed={"reason": reason})
    return changed


def finish_generation(
    store: KeyStore, version: KeyVersion, made: Made, now: datetime, *, imported: bool = False
) -> KeyVersion:
    """Note that a version's key was made or imported; publishes the digest of its public key.

    Raises:
        StateError: KEY_STATE.
    """
    changed = replace(
        _moved(version, Step.GENERATE),
        handle=made.handle,
        public_key=made.public_key,
        in_token=made.in_token,
        imported=imported,
        generate_time=now,
    )
    store.update_version(changed)
    action = "key-version.import" if imported else "key-version.generate"
    store.trail.record(action, version.name, published=made.digest)
    return activate_if_due(store, changed, now)


def fail_generation(store: KeyStore, version: KeyVersion, code: str) -> None:
    """Note that a version's key could not be made."""
    store.update_version(_moved(version, Step.FAIL))
    store.trail.record("key-version.fail", version.name, code=code)


def activate_if_due(store: KeyStore, version: KeyVersion, now: datetime) -> KeyVersion:
    """Let a version take over from the primary if its time has come.

    Raises:
        StateError: KEY_STATE.
    """
    if version.activate_time > now:
        return version
    changed = _moved(version, Step.ACTIVATE)
    store.update_version(changed)
    store.trail.record("key-version.activate", version.name)
    key = get_key(store, version.key)
    before = None if key.primary is None else store.version(key.name, key.primary)
    if before is not None and before.state is VersionState.ENABLED:
        store.update_version(_moved(before, Step.DEACTIVATE))
        store.trail.record("key-version.deactivate", before.name)
    store.update_key(replace(key, primary=version.number, revision=key.revision + 1))
    return changed


def destruction_is_due(version: KeyVersion, now: datetime) -> bool:
    """Whether a version that is to be destroyed has had its time."""
    return version.destroy_time is not None and version.destroy_time <= now


def destroy(store: KeyStore, version: KeyVersion, now: datetime) -> None:
    """Destroy a version whose time has come.

    A wrapped key is gone with its handle. The handle of a key in a token stays until the key was
    erased there, because that cannot be undone when this transaction fails.

    Raises:
        StateError: KEY_STATE.
    """
    handle = version.handle if version.in_token else None
    store.update_version(replace(_moved(version, Step.DESTROY), destroy_time=now, handle=handle))
    store.trail.record("key-version.destroy", version.name)


def forget(store: KeyStore, version: KeyVersion) -> None:
    """Note that the key of a destroyed version was erased in its token."""
    store.update_version(replace(version, handle=None))
    store.trail.record("key-version.erase", version.name)


def _moved(version: KeyVersion, step: Step) -> KeyVersion:
    state = after(version.state, step, version.name)
    return replace(version, state=state, revision=version.revision + 1)


def _update_primary(store: KeyStore, version: KeyVersion) -> None:
    key = get_key(store, version.key)
    primary = key.primary
    if version.state is VersionState.ENABLED and primary is None:
        primary = version.number
    elif version.state is not VersionState.ENABLED and primary == version.number:
        primary = None
    if primary != key.primary:
        store.update_key(replace(key, primary=primary, revision=key.revision + 1))
