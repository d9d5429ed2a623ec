"""The time, as something that is handed in, so that tests can move it."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Tells the time: an aware UTC instant."""


def system_clock() -> datetime:
    """The time of this machine."""
    return datetime.now(UTC)
