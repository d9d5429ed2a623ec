"""When rounds start and phases close, by a clock that the test turns."""

import asyncio
from contextlib import ExitStack

import pytest
from finsecure_aggregator import schema
from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.ciphers import CipherWorkers
from finsecure_aggregator.clock import SystemClock
from finsecure_aggregator.encryption import EncryptionDesk
from finsecure_aggregator.endorsements import Endorsements
from finsecure_aggregator.gathering import Need, Pace
from finsecure_aggregator.models import ModelKeeper
from finsecure_aggregator.quarantine import Quarantine
from finsecure_aggregator.records import (
    PhaseRecord,
    RoundKey,
    RoundRecord,
    RoundState,
    TaskRecord,
    TaskState,
)
from finsecure_aggregator.round_protocol import WORKERS_LOST
from finsecure_aggregator.rounds import RoundDriver
from finsecure_aggregator.scheduler import Scheduler
from finsecure_aggregator.slices import LocalSlices
from finsecure_aggregator.store import Store
from finsecure_aggregator.surroundings import Surroundings
from finsecure_aggregator.transactions import cancel_task, create_task
from finsecure_aggregator.verifier import PeerVerifier
from finsecure_aggregator.watchers import Changes, Presence
from finsecure_crypto.errors import StateError, UnavailableError
from finsecure_crypto.federation import RoundKind
from finsecure_crypto.minimum_cohorts import MinimumCohorts
from finsecure_rpc.database import open_database

from tests.support.federation import initial_model, task_spec
from tests.support.pki import TestAuthority
from tests.support.published import FEDERATION, FixedMinima
from tests.unit.aggregator.conftest import make_plan, settle


class Bench:
    """An aggregator without a network."""

    def __init__(self, tmp_path, clock, sign=None, **spec):
        self.clock, self.changes, self.turns = clock, Changes(), Changes()
        self.presence = Presence(clock, self.changes, self.turns)
        self.database = open_database(f"sqlite:///{tmp_path}/aggregator.db")
        self.database.run_sync(schema.prepare)
        self.store = Store(self.database)
        self.blobs = Blobs(tmp_path / "blobs")
        self.plan = make_plan(**spec)
        self.minima = FixedMinima()
        pki = TestAuthority()
        identities = pki.enrol(tmp_path / "identity", "aggregator", "main")
        self.quarantine = Quarantine(self.database)
        self.models = ModelKeeper(self.blobs, identities, self.quarantine)
        self.around = Surroundings(
            store=self.store,
            blobs=self.blobs,
            clock=clock,
            changes=self.changes,
            turns=self.turns,
            presence=self.presence,
            verifier=PeerVerifier(lambda: pki.anchors, pki, "lending.finsecure.internal", clock),
            grace_ns=5 * 10**9,
            slices=LocalSlices(1),
            encryption=EncryptionDesk(None, CipherWorkers(1, 60), {}, 10**9),
            endorsements=Endorsements(self.store, sign),
            minima=self.minima,
        )
        self.spec = spec
        self.stack = ExitStack()

    async def begin(self):
        record = TaskRecord(
            self.plan.name, self.plan.spec, TaskState.AWAITING_MODEL, "", self.clock.now_ns()
        )
        await self.store.transact(lambda connection: create_task(connection, record))
        model = self.models.first(
            self.plan, initial_model(task_spec(**self.spec)), now_ns=self.clock.now_ns()
        )
        await self.store.add_initial_model(model, now_ns=self.clock.now_ns())
        return await self.restart()

    async def restart(self):
        self.scheduler = Scheduler(self.around, self.models, Pace(settle_ns=2 * 10**9))
        await self.scheduler.start()
        await settle()
        return self

    def join(self, *clients):
        for client in clients:
            self.stack.enter_context(self.presence.join(client, [self.plan.name]))

    async def rounds(self):
        # The runner's steps go through the database's one thread, so these wait for them.
        for _ in range(15):
            await asyncio.sleep(0.002)
            await self.store.transact(lambda connection: None)
        return await self.store.rounds(self.plan.name, after=(-1, 0), limit=100)

    async def until(self, holds):
        """Wait (in real time, without turning the clock) until something holds for the rounds."""
        async with asyncio.timeout(20):
            while not holds(rounds := await self.rounds()):
                pass
        return rounds

    async def close(self):
        await self.scheduler.stop()
        self.database.close()


@pytest.fixture
async def bench(tmp_path, clock):
    made = []

    async def make(**spec):
        made.append(Bench(tmp_path, clock, **spec))
        return await made[-1].begin()

    yield make
    for each in made:
        await each.close()


async def test_a_round_waits_for_the_minimum_and_for_calm(bench, clock):
    b = await bench(minimum=3, maximum=5)
    b.join("bank-a", "bank-b")
    await clock.advance(60)
    assert await b.rounds() == []
    b.join("bank-c")
    await clock.advance(1)
    assert await b.rounds() == []  # somebody has just come: more may
    b.join("bank-d")
    await clock.advance(1.5)
    assert await b.rounds() == []
    await clock.advance(0.6)
    (record,) = await b.until(bool)
    assert record.invited == ("bank-a", "bank-b", "bank-c", "bank-d")
    assert (record.key.number, record.key.attempt) == (1, 1)
    assert len(record.nonce) == 32


async def test_a_full_house_starts_at_once_and_the_choice_is_random(bench, clock):
    b = await bench(minimum=3, maximum=3, deadline_s=10)
    b.join(*(f"bank-{letter}" for letter in "abcdefgh"))
    chosen = set()
    for attempt in range(1, 6):
        record = (await b.until(lambda r, n=attempt: len(r) == n and r[-1].end_ns is None))[-1]
        assert len(record.invited) == 3
        assert record.key.attempt == attempt
        chosen.add(record.invited)
        await clock.advance(10.1)  # nobody answers
        await b.until(lambda r: r[-1].end_ns is not None)
        await clock.advance(20)  # the back-off
    assert len(chosen) > 1  # 1 in 9.8 million that five choices agree
    task = await b.store.task(b.plan.name)
    assert task.state is TaskState.FAILED
    assert {r.abort_reason for r in await b.rounds()} == {"COHORT_TOO_SMALL"}
    assert len({r.nonce for r in await b.rounds()}) == 5


async def test_back_off_grows(bench, clock):
    b = await bench(minimum=2, maximum=2, deadline_s=10)
    b.join("bank-a", "bank-b")
    await b.until(bool)
    await clock.advance(10.1)
    await b.until(lambda rounds: rounds[-1].end_ns is not None)
    await clock.advance(0.9)
    assert len(await b.rounds()) == 1
    await clock.advance(0.2)
    await b.until(lambda rounds: len(rounds) == 2)


async def test_a_deadline_is_that_of_the_store_after_a_restart(bench, clock):
    b = await bench(minimum=2, maximum=2, deadline_s=100)
    b.join("bank-a", "bank-b")
    await b.until(bool)
    await clock.advance(60)
    await b.scheduler.stop()
    await b.restart()
    (record,) = await b.rounds()
    assert record.state is RoundState.ADVERTISE_KEYS
    await clock.advance(39)
    assert (await b.rounds())[0].state is RoundState.ADVERTISE_KEYS
    await clock.advance(2)
    await b.until(lambda rounds: rounds[0].state is RoundState.ABORTED)


async def test_instructions_and_outcomes_are_replayed(bench, clock):
    b = await bench(minimum=2, maximum=2, deadline_s=10)
    b.join("bank-a", "bank-b")
    (record,) = await b.until(bool)
    for _ in range(2):
        (item,) = await b.scheduler.instructions(b.plan.name, "bank-a")
        assert (item.key, item.state) == (record.key, RoundState.ADVERTISE_KEYS)
        assert item.deadline_ns == record.phases[-1].deadline_ns
    assert await b.scheduler.instructions(b.plan.name, "bank-c") == []
    await clock.advance(10.1)
    await b.until(lambda rounds: rounds[-1].end_ns is not None)
    await b.scheduler.stop()
    await b.restart()
    (item,) = await b.scheduler.instructions(b.plan.name, "bank-a")
    assert (item.state, item.body.reason) == (RoundState.ABORTED, "COHORT_TOO_SMALL")
    assert await b.scheduler.instructions(b.plan.name, "bank-c") == []
    assert await b.scheduler.instructions("federations/lending/tasks/none", "bank-a") == []


async def test_presence_is_the_newest_stream(clock):
    changes, turns = Changes(), Changes()
    presence = Presence(clock, changes, turns)
    with presence.join("bank-a", ["t", "u"]) as old:
        assert presence.available("t") == {"bank-a"}
        assert presence.absent_since_ns("bank-a") is None
        with presence.join("bank-a", ["u"]) as new:
            assert (old.superseded, old.event.is_set(), new.superseded) == (True, True, False)
            assert presence.available("t") == frozenset()
            assert presence.available("u") == {"bank-a"}
    left = clock.now_ns()
    await clock.advance(5)
    assert presence.available("u") == frozenset()
    assert presence.absent_since_ns("bank-a") == left
    assert not turns._events  # nobody watches, nothing is kept
    assert not presence._changed_ns


async def test_a_cancelled_task_opens_no_round(bench, clock):
    b = await bench(minimum=2, maximum=2)
    await b.store.transact(lambda connection: cancel_task(connection, b.plan.name, "olga"))
    await b.scheduler.cancel(b.plan.name)
    b.join("bank-a", "bank-b")
    await clock.advance(10)
    assert await b.rounds() == []
    with pytest.raises(StateError):
        await b.store.open_round(_record(b))


def _record(b):
    return RoundRecord(
        RoundKey(b.plan.name, 1, 1),
        RoundKind.TRAINING,
        RoundState.ADVERTISE_KEYS,
        bytes(32),
        0,
        ("bank-a",),
        2,
        0,
        (PhaseRecord(RoundState.ADVERTISE_KEYS, 0, 1),),
    )


async def test_a_round_that_was_open_when_its_task_was_cancelled_is_aborted(bench, clock):
    b = await bench(minimum=2, maximum=2)
    b.join("bank-a", "bank-b")
    await b.until(bool)
    await b.scheduler.stop()  # the process dies between the cancellation and what follows
    await b.store.transact(lambda connection: cancel_task(connection, b.plan.name, "olga"))
    await b.restart()
    (record,) = await b.until(lambda rounds: rounds[-1].end_ns is not None)
    assert (record.state, record.abort_reason) == (RoundState.ABORTED, "TASK_CANCELLED")
    task = await b.store.task(b.plan.name)
    assert (task.state, task.current) == (TaskState.CANCELLED, None)


async def test_a_client_that_comes_and_goes_does_not_put_a_round_off_for_ever(bench, clock):
    b = await bench(minimum=2, maximum=5)
    b.join("bank-a", "bank-b")
    for _ in range(30):
        with b.presence.join("bank-c", [b.plan.name]):
            await clock.advance(0.5)
        await clock.advance(0.5)
        if await b.rounds():
            break
    await b.until(lambda rounds: len(rounds) == 1)
    assert clock.now_ns() <= 1_000 * 10**9 + 22 * 10**9


async def test_the_system_clock_waits_for_the_event_or_the_time():
    clock, event = SystemClock(), asyncio.Event()
    start = clock.now_ns()
    await clock.wait(event, start + 30_000_000)
    assert clock.now_ns() - start >= 25_000_000
    event.set()
    await clock.wait(event, None)


async def test_a_round_starts_with_as_many_as_the_federation_demands(bench, clock):
    b = await bench(minimum=2, maximum=5, deadline_s=10)
    b.minima.demanded = MinimumCohorts(FEDERATION, 2, rounds=4)
    b.join("bank-a", "bank-b", "bank-c")
    await clock.advance(60)
    assert await b.rounds() == []
    assert b.scheduler.need(b.plan.name) == Need(4)
    b.join("bank-d")
    await clock.advance(2.1)
    (record,) = await b.until(bool)
    assert (record.minimum_cohort, len(record.invited)) == (4, 4)
    # The next attempt keeps a minimum that is raised meanwhile, and goes on when it is lowered.
    b.minima.demanded = MinimumCohorts(FEDERATION, 3, rounds=6)
    await clock.advance(10.1)  # nobody answers
    await b.until(lambda rounds: rounds[-1].end_ns is not None)
    await clock.advance(60)
    assert len(await b.rounds()) == 1
    need = b.scheduler.need(b.plan.name)
    assert need.clients == 6
    assert "COHORT_BELOW_FEDERATION_MINIMUM" in need.obstacle
    b.minima.demanded = MinimumCohorts(FEDERATION, 4, rounds=3)
    await clock.advance(5.1)
    await clock.advance(2.1)
    second = (await b.until(lambda rounds: len(rounds) == 2))[-1]
    assert second.minimum_cohort == 3


async def test_no_round_starts_while_the_federations_minimum_is_not_known(bench, clock):
    b = await bench(minimum=2, maximum=2)
    b.minima.demanded = UnavailableError("MINIMUM_COHORT_UNKNOWN", "never read")
    b.join("bank-a", "bank-b")
    await clock.advance(60)
    assert await b.rounds() == []
    assert "[MINIMUM_COHORT_UNKNOWN]" in b.scheduler.need(b.plan.name).obstacle
    b.minima.demanded = MinimumCohorts(FEDERATION, 1, rounds=2)
    await clock.advance(5.1)
    (record,) = await b.until(bool)
    assert record.minimum_cohort == 2


async def test_an_attempt_over_which_workers_are_lost_again_and_again_is_given_up(
    bench, clock, monkeypatch
):
    tries = []

    async def run(driver):
        tries.append(driver.key.attempt)
        raise UnavailableError(WORKERS_LOST, "workers were lost")

    monkeypatch.setattr(RoundDriver, "run", run)
    b = await bench(minimum=2, maximum=2)
    b.join("bank-a", "bank-b")
    async with asyncio.timeout(60):
        while len(tries) < 6:
            await clock.advance(40)
            await b.rounds()
    assert tries == [1, 1, 1, 1, 1, 2]
    first, second = await b.rounds()
    assert (first.state, first.abort_reason) == (RoundState.ABORTED, WORKERS_LOST)
    assert second.end_ns is None
    assert WORKERS_LOST in (await b.store.task(b.plan.name)).detail


async def test_what_passes_by_itself_is_waited_for(bench, clock, monkeypatch):
    tries = []

    async def run(driver):
        tries.append(driver.key.attempt)
        raise UnavailableError("STORE_UNAVAILABLE", "try later")

    monkeypatch.setattr(RoundDriver, "run", run)
    b = await bench(minimum=2, maximum=2)
    b.join("bank-a", "bank-b")
    async with asyncio.timeout(60):
        while len(tries) < 7:
            await clock.advance(40)
            await b.rounds()
    (record,) = await b.rounds()
    assert record.end_ns is None
