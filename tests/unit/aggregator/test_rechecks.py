"""Stored models are read again: what was changed is in quarantine until it is restored."""

import asyncio
from dataclasses import replace

import pytest
from finsecure_aggregator import schema
from finsecure_aggregator.quarantine import Quarantine
from finsecure_aggregator.rechecks import Rechecks
from finsecure_aggregator.records import RoundState
from finsecure_crypto.errors import StateError
from sqlalchemy import update

from tests.unit.aggregator.conftest import settle
from tests.unit.aggregator.test_scheduler import Bench

HOUR_S = 3600


@pytest.fixture
async def bench(tmp_path, clock):
    made = await Bench(tmp_path, clock).begin()
    made.file = next((tmp_path / "blobs" / "models").rglob("0.safetensors"))
    made.rechecks = Observed(made.around, made.models, made.quarantine, HOUR_S * 10**9)
    yield made
    await made.close()


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _delete(path):
    path.unlink()


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _grow(path):
    path.write_bytes(path.read_bytes() + b"x")


class Observed(Rechecks):
    """Says when a sweep is over."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.swept = asyncio.Queue()

    async def sweep(self):
        found = await super().sweep()
        self.swept.put_nowait(found)
        return found

    async def next(self):
        async with asyncio.timeout(60):
            found = await self.swept.get()
        await settle()  # it goes to sleep
        return found


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_flip, "MODEL_DAMAGED"),
        (_cut, "MODEL_DAMAGED"),
        (_grow, "MODEL_DAMAGED"),
        (_delete, "BLOB_MISSING"),
    ],
)
async def test_a_file_that_changed_is_out_of_use_within_the_hour_and_after_a_restart(
    bench, damage, code
):
    runner = asyncio.create_task(bench.rechecks.run())
    assert await bench.rechecks.next() == 0
    original = bench.file.read_bytes()
    damage(bench.file)
    await bench.clock.advance(HOUR_S - 1)
    record = await bench.store.model(bench.plan.name, 0)
    assert bench.models.quarantined(record) == ""
    await bench.clock.advance(1)
    assert await bench.rechecks.next() == 1
    runner.cancel()
    assert bench.models.quarantined(record) == code
    with pytest.raises(StateError, match="MODEL_QUARANTINED"):
        bench.models.piece(record, 0, 10)
    with pytest.raises(StateError, match="MODEL_QUARANTINED"):
        bench.models.tensors(record)

    again = Quarantine(bench.database)
    await again.load()
    assert again.reason(record) == code

    bench.file.write_bytes(original)
    assert await bench.rechecks.sweep() == 0  # a sweep lets nothing out
    assert bench.models.quarantined(record) == code
    assert await bench.rechecks.check(record)
    assert bench.models.piece(record, 0, 10) == original[:10]
    await again.load()
    assert again.reason(record) == ""


async def test_a_record_that_changed_is_found_too_and_not_signed_anew(bench):
    table = schema.models
    await bench.store.transact(
        lambda c: c.execute(update(table).values(round="federations/lending/tasks/x/rounds/9"))
    )
    assert await bench.rechecks.sweep() == 1
    record = await bench.store.model(bench.plan.name, 0)
    assert bench.models.quarantined(record) == "MODEL_SIGNATURE_REJECTED"
    foreign = replace(record, certificate=b"another")
    assert bench.models.refreshed(foreign) == foreign


async def test_what_is_whole_stays_in_use(bench):
    assert await bench.rechecks.sweep() == 0
    record = await bench.store.model(bench.plan.name, 0)
    bench.models.require_free(record)


async def test_no_round_starts_from_a_model_in_quarantine(bench):
    _flip(bench.file)
    assert await bench.rechecks.sweep() == 1
    bench.join("a", "b", "c")
    await bench.clock.advance(3)
    rounds = await bench.until(lambda found: found and found[0].state is RoundState.ABORTED)
    assert rounds[0].abort_reason == "MODEL_QUARANTINED"
