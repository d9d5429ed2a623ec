"""Shares of destroyed keys are erased: with a proof, after a grace, and nothing else is lost."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from finsecure_crypto import sealing
from finsecure_crypto.errors import StateError, UnavailableError
from finsecure_crypto.homomorphic.ceremony import dealt_share_context
from finsecure_crypto.homomorphic.key_record import KeyState
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_keyservice.audit.log import AuditLog
from finsecure_keyservice.trustee import store
from finsecure_keyservice.trustee.dealt_shares import DealtShare
from finsecure_keyservice.trustee.schema import KEYS
from finsecure_keyservice.trustee.surroundings import share_context
from sqlalchemy import delete

from tests.support.trustees import (
    CLIENTS,
    GRACE,
    KEY_NAME,
    OPERATOR,
    RULES,
    Federation,
    Trustee,
    key,
    share,
)

MINUTE = timedelta(minutes=1)


class Clock:
    """The machine's time, set forward."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trustee(trustee: Trustee, clock: Clock) -> Trustee:
    auditor = replace(trustee.books.auditor, clock=clock)
    return replace(trustee, books=replace(trustee.books, auditor=auditor))


def destroyed(trustee: Trustee) -> None:
    trustee.states.current = KeyState.DESTROYED
    trustee.states.logged = {(KEY_NAME, KeyState.DESTROYED)}


def held(trustee: Trustee) -> bool:
    return bool(trustee.database.run_sync(store.wrapped_shares))


def actions(trustee: Trustee) -> list[str]:
    return [event.action for event in trustee.events()]


async def test_a_share_goes_after_its_grace_and_what_it_opened_stays_opened(
    federation: Federation, trustee: Trustee, clock: Clock
) -> None:
    bank = federation.sum()
    partial = await trustee.open(bank)
    destroyed(trustee)
    await trustee.erasures.review()
    clock.ahead = GRACE - MINUTE
    await trustee.erasures.review()
    assert held(trustee)
    assert await trustee.open(bank) == partial  # what was given may be fetched again
    clock.ahead = GRACE + MINUTE
    await trustee.erasures.review()
    assert not held(trustee)
    assert actions(trustee) == ["sum.open", "erasure.schedule", "share.erase"]
    scheduled, erased = trustee.events()[1:]
    assert scheduled.subject == erased.subject == KEY_NAME
    assert scheduled.caller.endswith("/trustee/trustee-1")
    assert (scheduled.details["proof"], scheduled.details["grace_s"]) == (7, 7 * 86_400)
    assert erased.details == {"proof": 7, "partials": 1}
    known = trustee.database.run_sync(lambda c: store.opening(c, bank.request.digest()))
    assert known is not None
    assert (known.partial, len(known.sha256)) == (b"", 32)
    await trustee.erasures.review()
    assert len(trustee.events()) == 3
    # Whatever the key service says later, nothing is opened, given again, or forgotten.
    trustee.states.current = KeyState.ENABLED
    clock.ahead = timedelta(0)
    trustee.rules = replace(RULES, minimum_round_cohort=2)
    for request in (bank, federation.sum(CLIENTS[:2])):
        with pytest.raises(StateError, match="SHARE_ERASED"):
            await trustee.open(request)
    back = trustee.kek.wrap(share(1).serialise(), share_context(KEY_NAME))
    trustee.database.run_sync(lambda c: store.set_share(c, KEY_NAME, back))
    with pytest.raises(StateError, match="SUBJECT_OPENED"):
        await trustee.open(federation.sum(CLIENTS[:2]))


async def test_a_lie_without_an_event_in_the_log_erases_nothing(
    trustee: Trustee, clock: Clock
) -> None:
    trustee.states.current = KeyState.DESTROYED
    trustee.states.logged = {
        (KEY_NAME, KeyState.COMPROMISED),
        (KEY_NAME + "2", KeyState.DESTROYED),
    }
    for ahead in (timedelta(0), GRACE * 2):
        clock.ahead = ahead
        await trustee.erasures.review()
    # An event that is no longer there when the time has come is no proof either.
    destroyed(trustee)
    await trustee.erasures.review()
    trustee.states.logged = set()
    clock.ahead = GRACE * 4
    await trustee.erasures.review()
    assert held(trustee)
    assert actions(trustee) == ["erasure.schedule"]


@pytest.mark.parametrize(
    "state", [KeyState.ENABLED, KeyState.DISABLED, KeyState.DEACTIVATED, KeyState.COMPROMISED]
)
async def test_another_state_within_the_grace_takes_the_erasure_back(
    trustee: Trustee, clock: Clock, state: KeyState
) -> None:
    destroyed(trustee)
    await trustee.erasures.review()
    clock.ahead = GRACE - MINUTE
    trustee.states.current = state
    await trustee.erasures.review()
    # Said again, the grace begins again.
    trustee.states.current = KeyState.DESTROYED
    clock.ahead = GRACE + MINUTE
    await trustee.erasures.review()
    assert held(trustee)
    assert actions(trustee) == ["erasure.schedule", "erasure.cancel", "erasure.schedule"]
    assert trustee.events()[1].details == {"state": state.value}


async def test_a_compromised_key_is_refused_and_its_share_kept(
    federation: Federation, trustee: Trustee, clock: Clock
) -> None:
    trustee.states.current = KeyState.COMPROMISED
    trustee.states.logged = {(KEY_NAME, KeyState.COMPROMISED)}
    with pytest.raises(StateError, match="KEY_STATE"):
        await trustee.open(federation.sum())
    clock.ahead = GRACE * 4
    await trustee.erasures.review()
    assert held(trustee)
    assert actions(trustee) == ["call.refuse"]


async def test_who_asks_for_a_destroyed_key_sets_its_erasure_going(
    federation: Federation, trustee: Trustee
) -> None:
    destroyed(trustee)
    for _ in range(3):
        with pytest.raises(StateError, match="KEY_STATE"):
            await trustee.open(federation.sum())
    assert actions(trustee) == ["erasure.schedule", *["call.refuse"] * 3]


async def test_while_the_key_service_is_silent_nothing_is_erased(
    trustee: Trustee, clock: Clock
) -> None:
    destroyed(trustee)
    await trustee.erasures.review()
    trustee.states.current = UnavailableError("SERVICE_UNREACHABLE", "gone")
    clock.ahead = GRACE * 2
    await trustee.erasures.review()
    assert held(trustee)


async def test_what_cannot_be_recorded_is_not_erased(
    trustee: Trustee, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    destroyed(trustee)
    await trustee.erasures.review()
    clock.ahead = GRACE * 2

    def full(*_: object, **__: object) -> None:
        raise UnavailableError("AUDIT_UNAVAILABLE", "no room")

    with monkeypatch.context() as broken:
        broken.setattr(AuditLog, "append", full)
        await trustee.erasures.review()
    assert held(trustee)
    await trustee.erasures.review()
    assert not held(trustee)


async def test_a_longer_grace_counts_for_what_is_scheduled(
    trustee: Trustee, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    destroyed(trustee)
    await trustee.erasures.review()
    clock.ahead = GRACE + MINUTE
    with monkeypatch.context() as longer:
        longer.setattr("tests.support.trustees.GRACE", GRACE * 4)
        await trustee.erasures.review()
    assert held(trustee)
    await trustee.erasures.review()
    assert not held(trustee)


async def test_a_trustee_does_not_say_that_it_holds_what_it_erased(
    trustee: Trustee, clock: Clock
) -> None:
    name, pair = f"{KEY_NAME}-dealt", await trustee.holdings.sealing_key(OPERATOR)
    context = dealt_share_context(name, key().digest(), 1, trustee.id)
    sealed = sealing.seal(pair.public, share(1).serialise(), context)
    trustee.database.run_sync(lambda c: c.execute(delete(KEYS)))
    dealt = DealtShare(name, Mode.PAILLIER, key().serialise(), sealed, 1)
    assert await trustee.dealt_shares.take_in(OPERATOR, dealt)
    trustee.states.current = KeyState.DESTROYED
    trustee.states.logged = {(name, KeyState.DESTROYED)}
    for ahead in (timedelta(0), GRACE):
        clock.ahead = ahead
        await trustee.erasures.review()
    assert not held(trustee)
    with pytest.raises(StateError, match="SHARE_ERASED"):
        await trustee.dealt_shares.take_in(OPERATOR, dealt)
    assert not held(trustee)
