"""Work that arrives together is done together."""

import asyncio

import pytest
from finsecure_aggregator.batches import Batches


async def test_what_arrives_meanwhile_is_one_batch_in_order():
    seen, go = [], asyncio.Event()

    async def work(items):
        seen.append(list(items))
        await go.wait()
        return [item * 10 for item in items]

    batches = Batches(work, most=3)
    puts = [asyncio.create_task(batches.put(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    puts += [asyncio.create_task(batches.put(item)) for item in range(2, 7)]
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*puts) == [10, 20, 30, 40, 50, 60]
    assert seen == [[1], [2, 3, 4], [5, 6]]


async def test_an_error_is_of_one_item_or_of_the_whole_batch():
    async def work(items):
        if "bad batch" in items:
            raise OSError("whole")
        return [ValueError(item) if item == "bad" else item for item in items]

    batches = Batches(work, most=10)
    good, bad = await asyncio.gather(
        batches.put("good"), batches.put("bad"), return_exceptions=True
    )
    assert good == "good"
    assert isinstance(bad, ValueError)
    for one in await asyncio.gather(
        batches.put("good"), batches.put("bad batch"), return_exceptions=True
    ):
        assert isinstance(one, OSError)
    assert await batches.put("good") == "good"


async def test_a_caller_that_goes_away_stops_nothing():
    done, go = [], asyncio.Event()

    async def work(items):
        await go.wait()
        done.extend(items)
        return items

    batches = Batches(work, most=10)
    leaving = asyncio.create_task(batches.put("first"))
    staying = asyncio.create_task(batches.put("second"))
    await asyncio.sleep(0.01)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    go.set()
    assert await staying == "second"
    assert done == ["first", "second"]
