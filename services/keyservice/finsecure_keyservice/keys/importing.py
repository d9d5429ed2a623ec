"""Versions whose key somebody else made: import jobs, and what is brought in under them."""

from datetime import datetime

from finsecure_crypto.errors import InvalidArgumentError, NotFoundError

from finsecure_keyservice.keys.lookup import get_key, get_ring
from finsecure_keyservice.keys.material import Material, new_job_id, require_open
from finsecure_keyservice.keys.names import job_parent
from finsecure_keyservice.keys.records import ImportJob, KeyVersion
from finsecure_keyservice.keys.registry import add_version
from finsecure_keyservice.keys.store import KeyStore
from finsecure_keyservice.keys.versions import finish_generation


def create_job(store: KeyStore, material: Material, parent: str, now: datetime) -> ImportJob:
    """Make an import job of a ring.

    Raises:
        InvalidArgumentError: NAME_MALFORMED.
        NotFoundError: KEY_RING_NOT_FOUND.
    """
    get_ring(store, parent)
    name = f"{parent}/importJobs/{new_job_id(material.randomness)}"
    job = material.make_job(name, parent, now)
    store.add_job(job)
    store.trail.record("import-job.create", name)
    return job


def import_version(
    store: KeyStore, material: Material, parent: str, job_name: str, wrapped: bytes, now: datetime
) -> KeyVersion:
    """Add a version from a wrapped key; it takes over at once.

    Raises:
        InvalidArgumentError: NAME_MALFORMED, IMPORT_JOB_OF_OTHER_RING, KEY_MALFORMED,
            KEY_ALGORITHM.
        NotFoundError: KEY_NOT_FOUND, IMPORT_JOB_NOT_FOUND.
        StateError: IMPORT_JOB_EXPIRED, KEY_ROTATION_PENDING, KEY_VERSIONS_EXHAUSTED.
        IntegrityError: WRAPPED_KEY_REJECTED.
    """
    key = get_key(store, parent)
    if job_parent(job_name) != key.parent:
        raise InvalidArgumentError(
            "IMPORT_JOB_OF_OTHER_RING", f"{job_name} is not of the ring of {parent}; make one there"
        )
    job = store.job(job_name)
    if job is None:
        raise NotFoundError("IMPORT_JOB_NOT_FOUND", f"there is no {job_name}; make a new one")
    require_open(job, now)
    version = add_version(store, key, now, now)
    made = material.take(job, wrapped, key.algorithm, version)
    return finish_generation(store, version, made, now, imported=True)
