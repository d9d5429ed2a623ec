"""Records as rows of the database, and rows as records."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from finsecure_aggregator.records import (
    Message,
    PhaseRecord,
    RoundKey,
    RoundRecord,
    RoundState,
    TaskRecord,
    TaskState,
)


def task_values(task: TaskRecord) -> dict[str, Any]:
    """Make the row of a task."""
    values = asdict(task)
    del values["current"]
    return values | {
        "state": task.state.value,
        "current_number": task.current.number if task.current else None,
        "current_attempt": task.current.attempt if task.current else None,
    }


def task_of(row: Row[Any]) -> TaskRecord:
    """Read a row of tasks."""
    values = dict(row._mapping)
    number, attempt = values.pop("current_number"), values.pop("current_attempt")
    values["state"] = TaskState(values["state"])
    current = None if number is None else RoundKey(values["name"], number, attempt)
    return TaskRecord(**values, current=current)


def round_values(record: RoundRecord) -> dict[str, Any]:
    """Make the row of a round; its phases and messages have their own."""
    return asdict(record.key) | {
        "kind": record.kind.value,
        "state": record.state.value,
        "nonce": record.nonce,
        "base_version": record.base_version,
        "invited": list(record.invited),
        "minimum_cohort": record.minimum_cohort,
        "start_ns": record.start_ns,
        "end_ns": record.end_ns,
        "result_version": record.result_version,
        "abort_reason": record.abort_reason,
        "abort_detail": record.abort_detail[:1000],
        "blamed": [list(pair) for pair in record.blamed],
        "trustees": [asdict(answer) for answer in record.trustees],
        "metrics": asdict(record.metrics) if record.metrics else None,
    }


def phase_values(key: RoundKey, phase: PhaseRecord) -> dict[str, Any]:
    """Make the row of a phase of a round."""
    return asdict(key) | asdict(phase) | {"phase": phase.phase.value}


def message_values(key: RoundKey, message: Message) -> dict[str, Any]:
    """Make the row of a message in a round's log."""
    return asdict(key) | asdict(message) | {"phase": message.phase.value}


def message_of(row: Row[Any]) -> Message:
    """Read a row of a round's log."""
    return Message(RoundState(row.phase), row.client, row.digest, row.payload, row.size_bytes)
