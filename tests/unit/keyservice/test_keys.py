"""The life of managed keys: every transition, rotation, destruction, import and envelopes."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from finsecure_crypto.certificates import SpiffeId
from finsecure_crypto.errors import (
    ConflictError,
    IntegrityError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    StateError,
    UnavailableError,
)
from finsecure_crypto.key_import import wrap_for_import
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signatures import SignatureAlgorithm, SoftwareSigner, verify
from finsecure_keyservice.keys import envelope, importing, lookup, registry, versions
from finsecure_keyservice.keys.access import require_own_federation
from finsecure_keyservice.keys.material import Material
from finsecure_keyservice.keys.names import VersionName
from finsecure_keyservice.keys.records import KeyAlgorithm, KeyPurpose, KeyVersion
from finsecure_keyservice.keys.registry import KeyWish
from finsecure_keyservice.keys.states import (
    TRANSITIONS,
    USES,
    Step,
    Use,
    VersionState,
    after,
    diagram,
    require_use,
)

from tests.support.keys import KEY, LENDING, RING, Keys
from tests.support.keyservice import DOMAIN, START

NOWHERE = "federations/none/keyRings/models"
FAR_AWAY = START + timedelta(days=4000)
DATA_KEY = SecretBytes(bytes(range(32)))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def _change(keys: Keys, number: int, step: Step, revision: int | None = None) -> KeyVersion:
    with keys.transaction() as store:
        name = str(VersionName(KEY, number))
        return versions.change(
            store, name, step, reason="a drill", revision=revision, now=keys.clock.now
        )


def test_what_the_table_does_not_say_is_refused() -> None:
    for state in VersionState:
        for step in Step:
            if (state, step) in TRANSITIONS:
                assert after(state, step, "v") is TRANSITIONS[state, step]
            else:
                with pytest.raises(StateError, match="KEY_STATE"):
                    after(state, step, "v")
        for use in Use:
            if state not in USES[use]:
                with pytest.raises(StateError, match="KEY_STATE"):
                    require_use(state, use, "v")


def test_every_state_is_reached_and_only_dead_ones_are_final() -> None:
    reached = {VersionState.PENDING_GENERATION} | set(TRANSITIONS.values())
    assert reached == set(VersionState)
    final = set(VersionState) - {state for state, _ in TRANSITIONS}
    assert final == {VersionState.GENERATION_FAILED, VersionState.DESTROYED}
    assert not {VersionState.DESTROYED, VersionState.DISABLED} & set().union(*USES.values())


def test_the_documented_diagram_is_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "protocols" / "keys.md").read_text()
    assert f"```mermaid\n{diagram()}```" in page


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
async def test_a_first_version_is_made_and_takes_over(keys: Keys, algorithm: KeyAlgorithm) -> None:
    symmetric = algorithm is KeyAlgorithm.AES_256_GCM
    purpose = KeyPurpose.DATA_ENCRYPTION if symmetric else KeyPurpose.MODEL_SIGNING
    key = await keys.create(algorithm, purpose)
    version = keys.version(1)
    assert key.primary == 1
    assert version.state is VersionState.ENABLED
    assert version.handle is not None
    assert (version.public_key is None) == symmetric
    actions = [event.action for event in keys.books.events()]
    assert actions[-4:] == [
        "key.create",
        "key-version.create",
        "key-version.generate",
        "key-version.activate",
    ]
    if version.public_key is not None:
        published = keys.books.events()[-2].details["sha256"]
        assert published == hashlib.sha256(version.public_key).hexdigest()
        signature = keys.material.signer(algorithm, version).sign(b"data")
        assert verify(algorithm.signature, version.public_key, signature, b"data")


async def test_rotation_by_hand_leaves_the_old_version_to_verify(keys: Keys) -> None:
    await keys.create()
    await keys.rotate()
    assert keys.key().primary == 2
    assert [keys.version(n).state for n in (1, 2)] == [
        VersionState.DEACTIVATED,
        VersionState.ENABLED,
    ]


async def test_rotation_by_schedule(keys: Keys) -> None:
    await keys.create(rotation_period=timedelta(days=30))
    keys.clock.move(days=29)
    await keys.life.tick()
    assert keys.key().primary == 1
    keys.clock.move(days=1)
    await keys.life.tick()
    assert keys.key().primary == 2
    keys.clock.move(days=365)  # a service that was away rotates once, not twelve times
    await keys.life.tick()
    await keys.life.tick()
    assert keys.key().primary == 3
    with keys.transaction() as store:
        registry.set_rotation(store, KEY, None, keys.key().revision, keys.clock.now)
    keys.clock.move(days=365)
    await keys.life.tick()
    assert keys.key().primary == 3


async def test_a_version_waits_for_its_time(keys: Keys) -> None:
    await keys.create()
    later = keys.clock.now + timedelta(days=7)
    with keys.transaction() as store:
        registry.rotate(store, KEY, later, None, keys.clock.now)
    await keys.life.tick()
    waiting = keys.version(2)
    assert waiting.state is VersionState.PENDING_ACTIVATION
    assert waiting.public_key is not None  # verifiers can have it in advance
    assert keys.key().primary == 1
    with keys.transaction() as store, pytest.raises(StateError, match="KEY_ROTATION_PENDING"):
        registry.rotate(store, KEY, None, None, keys.clock.now)
    keys.clock.move(days=7)
    await keys.life.tick()
    assert keys.key().primary == 2
    assert keys.version(1).state is VersionState.DEACTIVATED


async def test_a_crash_between_asking_and_making_is_made_up_for(keys: Keys) -> None:
    with keys.transaction() as store:
        registry.create_key(
            store, KeyWish(KEY, KeyPurpose.MODEL_SIGNING, KeyAlgorithm.ED25519), START
        )
    assert keys.version(1).state is VersionState.PENDING_GENERATION
    again = Keys.__new__(Keys)
    again.__dict__.update(keys.__dict__)
    await again.life.tick()
    assert keys.version(1).state is VersionState.ENABLED


async def test_a_token_that_is_away_delays_a_key_and_a_defect_fails_it(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise UnavailableError("TOKEN_NOT_PRESENT", "away")

    def broken(*_: object) -> None:
        raise InternalError("RANDOMNESS_BROKEN", "broken")

    for failure, state in (
        (away, VersionState.PENDING_GENERATION),
        (broken, VersionState.GENERATION_FAILED),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Material, "make", failure)
            try:
                await (keys.create() if failure is away else keys.life.tick())
            except UnavailableError:
                assert failure is away
        assert keys.version(1).state is state
    assert keys.key().primary is None
    with keys.transaction() as store, pytest.raises(StateError, match="KEY_WITHOUT_PRIMARY"):
        lookup.primary_of(store, KEY)
    await keys.rotate()
    assert keys.key().primary == 2


@pytest.mark.parametrize("committed", [True, False])
async def test_a_lost_reply_destroys_no_key_that_a_version_has(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    destroyed: list[bytes] = []
    finish = versions.finish_generation
    monkeypatch.setattr(Material, "destroy", lambda _, handle: destroyed.append(handle))
    finished: list[KeyVersion] = []

    def finishing(*arguments: Any) -> KeyVersion:
        finished.append(finish(*arguments))
        if not committed:
            raise UnavailableError("STORE_UNAVAILABLE", "nothing was written")
        return finished[0]

    async def transact(act: Callable[[Any], Any]) -> Any:
        done = len(finished)
        result = await Keys.transact(keys, act)
        if len(finished) > done:
            raise asyncio.CancelledError  # the service stops while the commit is under way
        return result

    monkeypatch.setattr(versions, "finish_generation", finishing)
    monkeypatch.setattr(keys, "transact", transact)
    with pytest.raises((asyncio.CancelledError, UnavailableError)):
        await keys.create()
    kept = keys.version(1)
    assert kept.state is (VersionState.ENABLED if committed else VersionState.PENDING_GENERATION)
    assert destroyed == ([] if committed else [finished[0].handle])


async def test_destruction_waits_can_be_taken_back_and_is_final(keys: Keys) -> None:
    await keys.create(destroy_delay=timedelta(days=10))
    with pytest.raises(StateError, match="KEY_STATE"):
        _change(keys, 1, Step.SCHEDULE_DESTRUCTION)  # not while it is in use
    _change(keys, 1, Step.DISABLE)
    assert keys.key().primary is None
    scheduled = _change(keys, 1, Step.SCHEDULE_DESTRUCTION)
    assert scheduled.destroy_time == keys.clock.now + timedelta(days=10)
    keys.clock.move(days=9, hours=23)
    await keys.life.tick()
    assert _change(keys, 1, Step.RESTORE).destroy_time is None
    assert _change(keys, 1, Step.ENABLE).state is VersionState.ENABLED
    assert keys.key().primary == 1
    _change(keys, 1, Step.DISABLE)
    _change(keys, 1, Step.SCHEDULE_DESTRUCTION)
    keys.clock.move(days=10)
    with pytest.raises(StateError, match="can no longer be restored"):
        _change(keys, 1, Step.RESTORE)
    await keys.life.tick()
    gone = keys.version(1)
    assert gone.state is VersionState.DESTROYED
    assert gone.handle is None
    assert gone.public_key is not None  # what it signed can still be looked at
    with pytest.raises(StateError, match="KEY_STATE"):
        _change(keys, 1, Step.RESTORE)


async def test_a_compromised_version_never_comes_back(keys: Keys) -> None:
    await keys.create()
    _change(keys, 1, Step.COMPROMISE)
    assert keys.key().primary is None
    keys.clock.move(days=1)
    _change(keys, 1, Step.SCHEDULE_DESTRUCTION)
    _change(keys, 1, Step.RESTORE)
    for step in (Step.ENABLE, Step.DEACTIVATE):
        with pytest.raises(StateError, match="KEY_COMPROMISED"):
            _change(keys, 1, step)
    assert _change(keys, 1, Step.COMPROMISE).compromise_time == START


async def test_a_change_that_was_decided_on_an_older_state_is_refused(keys: Keys) -> None:
    await keys.create()
    revision = keys.version(1).revision
    _change(keys, 1, Step.DISABLE, revision)
    with pytest.raises(ConflictError, match="ETAG_MISMATCH"):
        _change(keys, 1, Step.ENABLE, revision)
    stale = keys.key().revision - 1
    with keys.transaction() as store:
        with pytest.raises(ConflictError, match="ETAG_MISMATCH"):
            registry.rotate(store, KEY, None, stale, START)
        with pytest.raises(ConflictError, match="ETAG_MISMATCH"):
            registry.set_rotation(store, KEY, None, stale, START)


async def test_every_change_is_an_event_and_reasons_stay_sealed(keys: Keys) -> None:
    await keys.create()
    for step in (Step.DISABLE, Step.SCHEDULE_DESTRUCTION, Step.RESTORE, Step.ENABLE):
        _change(keys, 1, step)
        event = keys.books.events()[-1]
        assert event.action == f"key-version.{step.value}"
        assert event.subject == f"{KEY}/cryptoKeyVersions/1"
        assert str(event.details["reason"]).startswith("hmac-sha256:")


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda s: registry.create_ring(s, RING, START), "KEY_RING_EXISTS"),
        (
            lambda s: registry.create_ring(s, "federations/none/keyRings/models", START),
            "FEDERATION_NOT_FOUND",
        ),
        (lambda s: registry.create_ring(s, f"{LENDING}/keyRings/M", START), "NAME_MALFORMED"),
        (lambda s: lookup.get_ring(s, f"{LENDING}/keyRings/other"), "KEY_RING_NOT_FOUND"),
        (lambda s: lookup.get_key(s, f"{RING}/cryptoKeys/other"), "KEY_NOT_FOUND"),
        (lambda s: lookup.get_key(s, f"{RING}/cryptoKeys/../x"), "NAME_MALFORMED"),
        (lambda s: lookup.get_version(s, f"{KEY}/cryptoKeyVersions/9"), "KEY_VERSION_NOT_FOUND"),
        (lambda s: lookup.get_version(s, f"{KEY}/cryptoKeyVersions/0"), "NAME_MALFORMED"),
        (lambda s: lookup.get_version(s, f"{KEY}/cryptoKeyVersions/1\n"), "NAME_MALFORMED"),
        (lambda s: _create(s), "KEY_EXISTS"),
        (lambda s: _create(s, "k2", purpose=KeyPurpose.DATA_ENCRYPTION), "KEY_ALGORITHM"),
        (lambda s: _create(s, "k2", algorithm=KeyAlgorithm.AES_256_GCM), "KEY_ALGORITHM"),
        (lambda s: _create(s, "k2", rotation_period=timedelta(hours=1)), "ROTATION_PERIOD"),
        (lambda s: _create(s, "k2", destroy_delay=timedelta(days=121)), "DESTROY_DELAY"),
        (
            lambda s: registry.rotate(s, KEY, START + timedelta(days=4000), None, START),
            "ACTIVATE_TIME",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused(
    keys: Keys, act: Callable[[object], object], code: str
) -> None:
    await keys.create()
    with (
        keys.transaction() as store,
        pytest.raises((ConflictError, InvalidArgumentError, NotFoundError), match=code),
    ):
        act(store)


def _create(store: object, key: str = "global", **wishes: object) -> object:
    wanted = {"purpose": KeyPurpose.MODEL_SIGNING, "algorithm": KeyAlgorithm.ED25519, **wishes}
    return registry.create_key(store, KeyWish(f"{RING}/cryptoKeys/{key}", **wanted), START)  # type: ignore[arg-type]


def _wrapped_for(keys: Keys, key: SecretBytes, name: str = KEY) -> tuple[str, bytes]:
    with keys.transaction() as store:
        job = importing.create_job(store, keys.material, RING, keys.clock.now)
    return job.name, wrap_for_import(key, job.name, job.public_key, name)


def _import(keys: Keys, job: str, wrapped: bytes) -> KeyVersion:
    with keys.transaction() as store:
        return importing.import_version(store, keys.material, KEY, job, wrapped, keys.clock.now)


async def test_an_imported_key_takes_over(keys: Keys) -> None:
    await keys.create()
    theirs = SoftwareSigner.generate(SignatureAlgorithm.ED25519)
    version = _import(keys, *_wrapped_for(keys, theirs.export()))
    assert version.imported
    assert version.public_key == theirs.public_key
    assert version.state is VersionState.ENABLED
    assert keys.key().primary == version.number == 2
    signature = keys.material.signer(KeyAlgorithm.ED25519, version).sign(b"data")
    assert verify(SignatureAlgorithm.ED25519, theirs.public_key, signature, b"data")


async def test_an_import_that_is_not_sound_changes_nothing(keys: Keys) -> None:
    await keys.create()
    other = SoftwareSigner.generate(SignatureAlgorithm.EC_P256_SHA256).export()
    good = SoftwareSigner.generate(SignatureAlgorithm.ED25519).export()
    job, wrapped = _wrapped_for(keys, good)
    attempts = [
        (*_wrapped_for(keys, other), "KEY_ALGORITHM"),
        (*_wrapped_for(keys, SecretBytes(b"x" * 48)), "KEY_MALFORMED"),
        (*_wrapped_for(keys, good, f"{RING}/cryptoKeys/other"), "WRAPPED_KEY_REJECTED"),
        (job, wrapped[:-1] + b"x", "WRAPPED_KEY_REJECTED"),
        (f"{RING}/importJobs/job-none", wrapped, "IMPORT_JOB_NOT_FOUND"),
        (f"{LENDING}/keyRings/other/importJobs/job-1", wrapped, "IMPORT_JOB_OF_OTHER_RING"),
    ]
    for name, data, code in attempts:
        with pytest.raises((InvalidArgumentError, IntegrityError, NotFoundError), match=code):
            _import(keys, name, data)
    keys.clock.move(days=1)
    with pytest.raises(StateError, match="IMPORT_JOB_EXPIRED"):
        _import(keys, job, wrapped)
    assert keys.key().primary == 1
    with pytest.raises(NotFoundError):
        keys.version(2)


async def test_an_envelope_opens_after_rotation_and_with_its_own_data_alone(keys: Keys) -> None:
    await keys.create(KeyAlgorithm.AES_256_GCM, KeyPurpose.DATA_ENCRYPTION)
    with keys.transaction() as store:
        version, wrapped = envelope.wrap(store, keys.material, KEY, DATA_KEY, b"model 7")
        assert version.number == 1
        opened = envelope.unwrap(store, keys.material, KEY, wrapped, b"model 7")
    assert opened == (DATA_KEY, False)
    await keys.rotate()
    with keys.transaction() as store:
        assert envelope.unwrap(store, keys.material, KEY, wrapped, b"model 7") == (DATA_KEY, True)
        _, renewed = envelope.wrap(store, keys.material, KEY, DATA_KEY, b"model 7")
        assert renewed[:4] == b"\0\0\0\2"
        for bad, associated in (
            (wrapped, b"model 8"),
            (b"\0\0\0\2" + wrapped[4:], b"model 7"),
            (b"\0\0\0\3" + wrapped[4:], b"model 7"),
            (wrapped[:-1] + bytes([wrapped[-1] ^ 1]), b"model 7"),
            (wrapped[:20], b"model 7"),
        ):
            with pytest.raises(IntegrityError, match="DATA_KEY_REJECTED"):
                envelope.unwrap(store, keys.material, KEY, bad, associated)


async def test_a_disabled_version_opens_nothing_and_a_compromised_one_does(keys: Keys) -> None:
    await keys.create(KeyAlgorithm.AES_256_GCM, KeyPurpose.DATA_ENCRYPTION)
    with keys.transaction() as store:
        _, wrapped = envelope.wrap(store, keys.material, KEY, DATA_KEY, b"")
    _change(keys, 1, Step.DISABLE)
    with keys.transaction() as store, pytest.raises(StateError, match="KEY_STATE"):
        envelope.unwrap(store, keys.material, KEY, wrapped, b"")
    _change(keys, 1, Step.COMPROMISE)
    with keys.transaction() as store:
        assert envelope.unwrap(store, keys.material, KEY, wrapped, b"")[0] == DATA_KEY
        with pytest.raises(StateError, match="KEY_WITHOUT_PRIMARY"):
            envelope.wrap(store, keys.material, KEY, DATA_KEY, b"")


async def test_a_signing_key_wraps_nothing(keys: Keys) -> None:
    await keys.create()
    with keys.transaction() as store, pytest.raises(StateError, match="KEY_PURPOSE"):
        envelope.wrap(store, keys.material, KEY, DATA_KEY, b"")


def test_members_reach_the_keys_of_their_own_federation_alone() -> None:
    mine = SpiffeId.parse(f"spiffe://lending.{DOMAIN}/aggregator/main")
    operator = SpiffeId.parse(f"spiffe://{DOMAIN}/operator/alice")
    for name in (LENDING, RING, KEY, f"{KEY}/cryptoKeyVersions/1"):
        require_own_federation(mine, name, DOMAIN)
        require_own_federation(operator, name, DOMAIN)
    for name in ("federations/cards", "federations/cards/keyRings/models"):
        with pytest.raises(PermissionDeniedError, match="FEDERATION_NOT_YOURS"):
            require_own_federation(mine, name, DOMAIN)
    with pytest.raises(InvalidArgumentError, match="NAME_MALFORMED"):
        require_own_federation(mine, "keyRings/models", DOMAIN)
