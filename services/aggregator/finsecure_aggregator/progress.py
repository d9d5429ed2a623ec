"""What the end of a round means for its task: pure decisions over records."""

from dataclasses import replace

from finsecure_crypto.federation import RoundKind, RoundMetrics

from finsecure_aggregator.plan import SECOND_NS, Plan
from finsecure_aggregator.records import TaskRecord, TaskState

MAX_ATTEMPTS = 5
FIRST_BACK_OFF_NS = SECOND_NS
MAX_BACK_OFF_NS = 300 * SECOND_NS


def next_number(task: TaskRecord, plan: Plan) -> int:
    """Number of the round that comes next; 0 is the statistics round."""
    # Each completed round makes one version, so the surplus is the statistics round's.
    statistics_done = (task.latest_version or 0) > task.completed_rounds
    if plan.standardise and not statistics_done:
        return 0
    return task.completed_rounds + 1


def kind_of(number: int) -> RoundKind:
    """What a round of that number adds up."""
    return RoundKind.TRAINING if number else RoundKind.STATISTICS


def after_success(
    task: TaskRecord,
    plan: Plan,
    *,
    kind: RoundKind,
    metrics: RoundMetrics,
    version: int,
    start_ns: int,
    end_ns: int,
) -> TaskRecord:
    """The task after a completed round.

    Args:
        task: before it.
        plan: its terms.
        kind: what the round added up.
        metrics: the round's.
        version: that it made.
        start_ns: when the round started.
        end_ns: when it ended.
    """
    task = replace(task, current=None, latest_version=version, detail="")
    if kind is RoundKind.STATISTICS:
        return replace(task, next_round_ns=end_ns)
    task = _with_loss(replace(task, completed_rounds=task.completed_rounds + 1), plan, metrics)
    if task.completed_rounds >= plan.rounds:
        return _ended(task, TaskState.COMPLETED, f"all {plan.rounds} rounds are done")
    if plan.convergence is not None and task.stale_rounds >= plan.convergence.patience:
        return _ended(
            task,
            TaskState.CONVERGED,
            f"the loss has not fallen below {task.best_loss:.6g} for {task.stale_rounds} rounds",
        )
    return replace(task, next_round_ns=max(start_ns + plan.interval_ns, end_ns))


def after_abort(
    task: TaskRecord, *, number: int, attempts: int, reason: str, detail: str, end_ns: int
) -> TaskRecord:
    """The task after an aborted round.

    Args:
        task: before it.
        number: of the round.
        attempts: at it, this one included; all were aborted.
        reason: reason code.
        detail: in words.
        end_ns: when it ended.
    """
    task = replace(task, current=None)
    if task.state.ended:
        return task
    if attempts >= MAX_ATTEMPTS:
        return _ended(
            task,
            TaskState.FAILED,
            f"round {number} was aborted {attempts} times in a row, last with {reason}: {detail}. "
            "Create a new task once the cause is gone",
        )
    wait_ns = min(FIRST_BACK_OFF_NS * 2 ** (attempts - 1), MAX_BACK_OFF_NS)
    return replace(
        task,
        detail=f"attempt {attempts} at round {number} was aborted with {reason}; it is repeated",
        next_round_ns=end_ns + wait_ns,
    )


def _ended(task: TaskRecord, state: TaskState, detail: str) -> TaskRecord:
    return replace(task, state=state, detail=detail[:1000], next_round_ns=None)


def _with_loss(task: TaskRecord, plan: Plan, metrics: RoundMetrics) -> TaskRecord:
    if plan.convergence is None or not metrics.validation_examples:
        return task
    better = (
        task.best_loss is None
        or task.best_loss - metrics.loss >= plan.convergence.minimum_decrease > 0
        or (plan.convergence.minimum_decrease == 0 and metrics.loss < task.best_loss)
    )
    if better:
        return replace(task, best_loss=metrics.loss, stale_rounds=0)
    return replace(task, stale_rounds=task.stale_rounds + 1)
