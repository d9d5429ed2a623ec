"""Following a task: no round's end is lost, and the view draws whatever it is given."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from finsecure.aggregation.v1 import tasks_pb2
from finsecure_cli import transport
from finsecure_cli.convert import Document, document
from finsecure_cli.progress import TaskProgress
from finsecure_cli.transport import Services
from rich.console import Console

TASK = "federations/f1/tasks/t1"


def answer(number: int, state: str, task_state: str = "RUNNING") -> tasks_pb2.WatchTaskResponse:
    return tasks_pb2.WatchTaskResponse(
        task=tasks_pb2.Task(
            name=TASK, state=f"TASK_STATE_{task_state}", spec=tasks_pb2.TaskSpec(rounds=3)
        ),
        round=tasks_pb2.Round(
            name=f"{TASK}/rounds/{number}-1", number=number, state=f"ROUND_STATE_{state}"
        ),
    )


class Recorded(Services):
    """Services whose stream is a recording."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self._wait = False

    @property
    def federation(self) -> str:
        return "federations/f1"

    def _channel(self, role: object) -> Any:
        class Channel:
            def __getattr__(self, name: str) -> Any:
                return lambda *args, **kwargs: None

        return Channel()

    async def get_round(self, task: str, round_: str) -> Document:
        self.fetched.append(round_)
        number = int(round_.partition("-")[0])
        return document(answer(number, "COMPLETED").round)


async def watched(
    monkeypatch: pytest.MonkeyPatch, answers: list[tasks_pb2.WatchTaskResponse]
) -> tuple[list[tuple[int, str]], list[str]]:
    async def stream(*args: object, **kwargs: object) -> AsyncIterator[Any]:
        for item in answers:
            yield item

    monkeypatch.setattr(transport, "stream", stream)
    services = Recorded()
    seen = [(r["number"], r["state"]) async for _, r in services.watch_task("t1") if r]
    return seen, services.fetched


async def test_end_of_a_round_that_the_stream_passed_over_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, fetched = await watched(
        monkeypatch,
        [answer(1, "SUBMIT_INPUT"), answer(2, "ADVERTISE_KEYS"), answer(2, "COMPLETED")],
    )
    assert seen == [
        (1, "submit_input"), (1, "completed"), (2, "advertise_keys"), (2, "completed"),
    ]  # fmt: skip
    assert fetched == ["1-1"]


async def test_nothing_is_fetched_where_the_stream_tells_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [answer(1, "REVEAL_SHARES"), answer(1, "COMPLETED"), answer(2, "SHARE_KEYS")]
    seen, fetched = await watched(monkeypatch, answers)
    assert [number for number, _ in seen] == [1, 1, 2]
    assert fetched == []


def drawn(progress: TaskProgress) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(progress)
    return capture.get()


def test_view_before_anything_is_known() -> None:
    assert "waiting" in drawn(TaskProgress())


@pytest.mark.parametrize("state", tasks_pb2.RoundState.keys()[1:])
def test_view_of_every_state_of_a_round(state: str) -> None:
    progress = TaskProgress()
    response = answer(1, state.removeprefix("ROUND_STATE_"))
    response.round.abort_reason = "COHORT_TOO_SMALL" if state.endswith("ABORTED") else ""
    progress.update(document(response.task), document(response.round))
    text = drawn(progress)
    assert "t1" in text
    assert "1-1" in text
    assert ("COHORT_TOO_SMALL" in text) == state.endswith("ABORTED")


def test_view_of_a_task_without_rounds_tells_what_it_waits_for() -> None:
    progress = TaskProgress()
    task = tasks_pb2.Task(name=TASK, state_detail="waits for 4 clients", spec={"rounds": 3})
    progress.update(document(task), None)
    assert "waits for 4 clients" in drawn(progress)
