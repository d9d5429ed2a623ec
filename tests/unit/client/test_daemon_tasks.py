"""Which of the tasks that there are a daemon takes part in."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

from finsecure_client.daemon import AllowedTasks
from finsecure_client.policy import Policy
from finsecure_client.terms import TaskStatus
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.secagg.parameters import ClientPolicy

from tests.support.client import ConstantTrainer, make_task

POLICY = Policy("lending", ("credit-*",), ClientPolicy(), maximum_epochs=1)


def honest() -> None:
    """A look at an audit log that only grew."""


def rolled_back() -> None:
    raise IntegrityError("AUDIT_LOG_ROLLED_BACK", "the log was cut")


async def wanted(*tasks: TaskStatus, look: Callable[[], None] = honest) -> list[str]:
    async def read() -> list[TaskStatus]:
        return list(tasks)

    with ThreadPoolExecutor(1) as worker:
        client = SimpleNamespace(tasks=read, worker=worker, audit=SimpleNamespace(check=look))
        chosen = await AllowedTasks(client, POLICY, ConstantTrainer()).wanted()  # type: ignore[arg-type]
    return [name.rpartition("/")[2] for name in chosen]


def status(task: str, *, is_open: bool = True, **terms: object) -> TaskStatus:
    made = replace(make_task(**terms), name=f"federations/lending/tasks/{task}")
    return TaskStatus(made, is_open, "running", "", 0, "")


async def test_open_tasks_that_the_policy_allows() -> None:
    found = await wanted(
        status("credit-a"),
        status("credit-b", is_open=False),
        status("credit-c", training__epochs=2),
        status("fraud"),
    )
    assert found == ["credit-a"]


async def test_one_stream_follows_no_more_than_the_contract_allows() -> None:
    found = await wanted(*(status(f"credit-{number}") for number in range(101)))
    assert len(found) == 100


async def test_no_task_at_all_once_the_audit_log_was_rolled_back() -> None:
    assert await wanted(status("credit-a"), look=rolled_back) == []
