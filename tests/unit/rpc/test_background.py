import asyncio
from contextlib import AsyncExitStack

from finsecure_rpc.background import running
from structlog.testing import capture_logs


async def test_work_that_fails_is_logged_at_once_and_spoils_neither_the_rest_nor_the_end() -> None:
    ended, failed = [], asyncio.Event()

    async def fails() -> None:
        failed.set()
        raise RuntimeError("broken")

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("goes_on")

    async def after() -> None:
        ended.append("after")

    with capture_logs() as lines:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(after)
            await stack.enter_async_context(running(fails(), goes_on()))
            async with asyncio.timeout(60):
                await failed.wait()
                while not lines:  # noqa: ASYNC110 -- logs have no event
                    await asyncio.sleep(0)
            assert ended == []
    assert ended == ["goes_on", "after"]
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("work in the background failed", "error")
    assert "broken" in str(line["exc_info"])


async def test_work_that_fails_when_it_is_cancelled_spoils_nothing_either() -> None:
    begun = asyncio.Event()

    async def stubborn() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            raise OSError("disk full")

    with capture_logs() as lines:
        async with running(stubborn()):
            await begun.wait()
    assert [line["event"] for line in lines] == ["work in the background failed"]
