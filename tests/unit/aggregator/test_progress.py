from dataclasses import replace

from finsecure_aggregator import progress
from finsecure_aggregator.plan import Convergence
from finsecure_aggregator.records import TaskRecord, TaskState
from finsecure_crypto.federation import RoundKind, RoundMetrics

S = 10**9


def running(plan, **fields):
    return TaskRecord(plan.name, plan.spec, TaskState.RUNNING, "", 0, latest_version=0, **fields)


def metrics(loss, validation=10):
    return RoundMetrics(loss, 0.5, None, 100, validation, 100)


def success(task, plan, loss=1.0, *, kind=RoundKind.TRAINING, validation=10):
    return progress.after_success(
        task,
        plan,
        kind=kind,
        metrics=metrics(loss, validation),
        version=(task.latest_version or 0) + 1,
        start_ns=100 * S,
        end_ns=130 * S,
    )


def test_rounds_follow_each_other_until_all_are_done(change):
    plan = change(rounds=2)
    task = success(running(plan), plan)
    assert (task.state, task.completed_rounds, task.next_round_ns) == (
        TaskState.RUNNING,
        1,
        130 * S,
    )
    task = success(task, plan)
    assert (task.state, task.completed_rounds, task.next_round_ns) == (TaskState.COMPLETED, 2, None)


def test_the_interval_counts_from_start_to_start(change):
    plan = change(rounds=5, interval_ns=3600 * S)
    assert success(running(plan), plan).next_round_ns == 3700 * S


def test_the_statistics_round_comes_first_and_is_no_training_round(change):
    plan = change(rounds=1, standardise=True, interval_ns=3600 * S)
    task = running(plan)
    assert progress.next_number(task, plan) == 0
    assert progress.kind_of(0) is RoundKind.STATISTICS
    task = success(task, plan, kind=RoundKind.STATISTICS)
    assert (task.completed_rounds, task.next_round_ns) == (0, 130 * S)  # no interval before it
    assert progress.next_number(task, plan) == 1
    assert success(task, plan).state is TaskState.COMPLETED


def test_training_converges_when_the_loss_has_not_fallen_for_long_enough(change):
    plan = change(rounds=100, convergence=Convergence(patience=2, minimum_decrease=0.1))
    task = running(plan)
    states = []
    for loss in (1.0, 0.85, 0.80, 0.70, 0.69, 0.61):
        task = success(task, plan, loss)
        states.append((task.state, task.best_loss, task.stale_rounds))
    assert states == [
        (TaskState.RUNNING, 1.0, 0),
        (TaskState.RUNNING, 0.85, 0),
        (TaskState.RUNNING, 0.85, 1),
        (TaskState.RUNNING, 0.70, 0),
        (TaskState.RUNNING, 0.70, 1),
        (TaskState.CONVERGED, 0.70, 2),
    ]


def test_an_equal_loss_is_not_better_and_no_validation_says_nothing(change):
    plan = change(rounds=100, convergence=Convergence(patience=3, minimum_decrease=0.0))
    task = success(running(plan), plan, 1.0)
    assert success(task, plan, 1.0).stale_rounds == 1
    assert success(task, plan, 0.999).stale_rounds == 0
    assert success(task, plan, 0.0, validation=0) == replace(
        task, completed_rounds=2, latest_version=2
    )


def test_aborted_attempts_are_repeated_later_and_later_and_then_given_up(plan):
    task = running(plan)
    waits = []
    for attempt in (1, 2, 3, 4):
        after = progress.after_abort(
            task, number=1, attempts=attempt, reason="R", detail="why", end_ns=0
        )
        assert after.state is TaskState.RUNNING
        waits.append(after.next_round_ns / S)
    assert waits == [1, 2, 4, 8]
    after = progress.after_abort(task, number=1, attempts=5, reason="R", detail="why", end_ns=0)
    assert after.state is TaskState.FAILED
    assert "R: why" in after.detail


def test_a_cancelled_task_stays_cancelled(plan):
    task = replace(running(plan), state=TaskState.CANCELLED)
    after = progress.after_abort(task, number=1, attempts=5, reason="R", detail="", end_ns=0)
    assert after.state is TaskState.CANCELLED
